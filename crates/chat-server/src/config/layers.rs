//! Layers of settings, and one setting from them.

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::value::{self, Setting};

/// The name of the layer of defaults.
pub const DEFAULTS: &str = "default";
/// The name of the layer of environment variables.
pub const ENVIRONMENT: &str = "environment";

/// A named layer of settings.
pub struct Layer {
    name: String,
    values: Dict,
}

impl Layer {
    /// A layer with these values.
    pub fn new(name: impl Into<String>, values: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self {
            name: name.into(),
            values: values.into_iter().collect(),
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// One setting from the layers. Adds a fault if the value is invalid.
pub(super) fn field<T: Setting>(
    figment: &Figment,
    key: &str,
    variable: &str,
    faults: &mut Vec<String>,
) -> Option<T> {
    let value = figment.find_value(key).ok();
    if let Some(setting) = T::read(value.as_ref()) {
        return Some(setting);
    }
    let source = value
        .as_ref()
        .and_then(|value| figment.get_metadata(value.tag()))
        .map(|metadata| metadata.name.as_ref());
    let place = match source {
        Some(file) if file != ENVIRONMENT && file != DEFAULTS => {
            format!("{file}: {key} ({variable})")
        }
        _ => variable.to_owned(),
    };
    let exact = value.as_ref().map(T::faults).unwrap_or_default();
    if !exact.is_empty() {
        faults.extend(exact.into_iter().map(|fault| format!("{place}: {fault}")));
        return None;
    }
    faults.push(match value.as_ref().and_then(value::text) {
        Some(text) if !T::SECRET => format!("{place}: {text:?} {}", T::fault(&text)),
        Some(_) => format!("{place}: the value (not shown) is not {}", T::EXPECTED),
        None => format!("{place}: the value is not {}", T::EXPECTED),
    });
    None
}
