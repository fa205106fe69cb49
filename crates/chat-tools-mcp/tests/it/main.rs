//! The toolset with real child processes.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod children;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod support;
