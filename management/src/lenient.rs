//! Reads JSON as clients of the API write it: missing and `null` fields are empty, unknown ones do not matter,
//! arrays do not stand in for objects.

use meshgate_proto::Secret;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A value that may be missing or `null`.
pub(crate) fn empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A secret that may be missing or `null`.
pub(crate) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret<String>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.unwrap_or_default().into())
}

/// An object that may be missing or `null`.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let map: Option<Map<String, Value>> = Option::deserialize(deserializer)?;
    map.map(|map| T::deserialize(Value::Object(map)).map_err(D::Error::custom))
        .transpose()
}

/// A list of objects that may be missing or `null`.
pub(crate) fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let maps: Option<Vec<Map<String, Value>>> = Option::deserialize(deserializer)?;
    maps.unwrap_or_default()
        .into_iter()
        .map(|map| T::deserialize(Value::Object(map)).map_err(D::Error::custom))
        .collect()
}
