//! Commands, run as a user that PostgreSQL accepts.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::Error;

/// Unprivileged users that exist on most systems, in order of preference.
const UNPRIVILEGED: &[&str] = &["postgres", "nobody"];

/// The user that owns a cluster. PostgreSQL refuses to run as root.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// The user of this process.
    Current,
    /// This process is root, and uses this user and group instead.
    Other { user: u32, group: u32 },
}

impl Owner {
    pub(crate) fn find() -> Result<Self, Error> {
        if !is_root()? {
            return Ok(Self::Current);
        }
        for name in UNPRIVILEGED {
            if let (Some(user), Some(group)) = (id(&["-u", name])?, id(&["-g", name])?) {
                return Ok(Self::Other { user, group });
            }
        }
        Err(Error::new(
            "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` \
            to run it as",
        ))
    }

    /// Returns a command that runs as this user.
    pub(crate) fn command(&self, program: &Path) -> Command {
        match self {
            Self::Current => Command::new(program),
            Self::Other { user, group } => {
                // `setpriv` (util-linux, on every Debian system) executes the program in place, so
                // the process id is that of the program.
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={user}"))
                    .arg(format!("--regid={group}"))
                    .arg("--clear-groups")
                    .arg("--")
                    .arg(program);
                command
            }
        }
    }

    /// Changes the owner of a file or folder to this user.
    pub(crate) fn chown(&self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Current => Ok(()),
            Self::Other { user, group } => {
                std::os::unix::fs::chown(path, Some(*user), Some(*group))
                    .map_err(Error::io(path.display()))
            }
        }
    }
}

/// Whether this process is root.
pub(crate) fn is_root() -> Result<bool, Error> {
    Ok(id(&["-u"])? == Some(0))
}

/// Returns the output of `id`, or `None` if the user does not exist.
fn id(arguments: &[&str]) -> Result<Option<u32>, Error> {
    let output = Command::new("id")
        .args(arguments)
        .output()
        .map_err(Error::io("id"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

/// Runs a command to its end. The error contains its output.
pub(crate) fn run(command: &mut Command) -> Result<Output, Error> {
    let name = name(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_start(&name, &error))?;
    if output.status.success() {
        Ok(output)
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(format!(
            "{name} failed ({}): {}",
            output.status,
            stderr.trim()
        )))
    }
}

pub(crate) fn cannot_start(name: &str, error: &io::Error) -> Error {
    Error::new(match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{name} is missing; install it (on Debian: the package {})",
            package_of(name)
        ),
        _ => format!("{name} cannot be started: {error}"),
    })
}

fn package_of(name: &str) -> &str {
    match name {
        "setpriv" => "util-linux",
        "openssl" => "openssl",
        _ => "postgresql",
    }
}

/// Returns the program's name, without its folder and without `setpriv`.
fn name(command: &Command) -> String {
    let program = match command.get_program() {
        setpriv if setpriv == "setpriv" => command
            .get_args()
            .skip_while(|argument| *argument != "--")
            .nth(1)
            .unwrap_or(setpriv),
        program => program,
    };
    Path::new(program)
        .file_name()
        .unwrap_or(program)
        .to_string_lossy()
        .into_owned()
}
