//! Reads the settings from their layers: defaults, a TOML file, environment variables.

use std::ffi::OsString;
use std::path::Path;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider};

use super::layers::{DEFAULTS, ENVIRONMENT, Layer};
use super::{Config, ConfigError, ROWS};

impl Config {
    /// Reads the settings: defaults, then the file, if any, then the environment. Removes white
    /// space around each value. An empty variable counts as unset.
    ///
    /// # Errors
    /// All faults together.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let defaults = ROWS
            .iter()
            .filter_map(|row| Some((row.key.to_owned(), row.default?.into())));
        let mut figment = Figment::from(Layer::new(DEFAULTS, defaults));
        if let Some(path) = file {
            match read_file(path, &mut faults) {
                Some(values) => {
                    figment = figment.merge(Layer::new(path.display().to_string(), values))
                }
                None => return Err(ConfigError { faults }),
            }
        }
        let (values, unknown) = read_environment(environment, &mut faults);
        figment = figment.merge(Layer::new(ENVIRONMENT, values));
        let config = Self::read(&figment, unknown, faults)?;
        config.check()?;
        Ok(config)
    }
}

fn read_file(path: &Path, faults: &mut Vec<String>) -> Option<Dict> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| faults.push(format!("{}: cannot read the file: {error}", path.display())))
        .ok()?;
    let mut profiles = Toml::string(&text)
        .data()
        .map_err(|error| {
            faults.push(format!(
                "{}: {}",
                path.display(),
                without_excerpt(&error.kind.to_string())
            ))
        })
        .ok()?;
    let mut values = profiles.remove(&Profile::Default).unwrap_or_default();
    for value in values.values_mut() {
        if let Value::String(_, text) = value {
            *text = text.trim().to_owned();
        }
    }
    for key in values
        .keys()
        .filter(|key| ROWS.iter().all(|row| row.key != *key))
    {
        faults.push(format!("{}: unknown setting `{key}`", path.display()));
    }
    Some(values)
}

/// The parser's message without the quoted line, which may have a secret.
fn without_excerpt(message: &str) -> String {
    message
        .lines()
        .filter(|line| !line.contains('|'))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The values of the settings' variables, and the names of unknown variables with their prefix.
fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    faults: &mut Vec<String>,
) -> (Vec<(String, Value)>, Vec<String>) {
    let (mut values, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        let Some(name) = name.to_str() else { continue };
        let Some(row) = ROWS.iter().find(|row| row.variable == name) else {
            if name.starts_with("CHAT_") && name != "CHAT_CONFIG" {
                unknown.push(name.to_owned());
            }
            continue;
        };
        match value.into_string() {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => values.push((row.key.to_owned(), text.trim().into())),
            Err(_) => faults.push(format!("{name}: the value is not UTF-8")),
        }
    }
    unknown.sort();
    (values, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_line_is_left_out_of_the_parsers_message() {
        let message = "TOML parse error at line 1, column 14\n  |\n1 | jwt_secret = hunter2\n  \
                       |              ^\ninvalid string\n";
        assert_eq!(
            without_excerpt(message),
            "TOML parse error at line 1, column 14, invalid string"
        );
    }
}
