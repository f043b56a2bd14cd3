//! Reads columns of a row as domain values. Everything that does not fit is an error, never a default.

use meshgate_proto::{
    AccessLogId, AccountId, GroupId, PeerId, PolicyId, ProxyId, ServiceId, SetupKeyId, TargetId, TokenId,
    UnixTime, UserId,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::store::StoreError;

/// An identifier that is stored as text.
pub(crate) trait TextId {
    /// Takes the text as it is.
    fn from_text(text: String) -> Self;
}

macro_rules! text_ids {
    ($($name:ident),+ $(,)?) => {$(
        impl TextId for $name {
            fn from_text(text: String) -> Self {
                Self::new(text)
            }
        }
    )+};
}

text_ids!(
    AccessLogId,
    AccountId,
    GroupId,
    PeerId,
    PolicyId,
    ProxyId,
    ServiceId,
    SetupKeyId,
    TargetId,
    TokenId,
    UserId,
);

/// The columns of one row.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'r>(pub(crate) &'r SqliteRow);

impl Columns<'_> {
    pub(crate) fn text(self, column: &'static str) -> Result<String, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub(crate) fn opt_text(self, column: &'static str) -> Result<Option<String>, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub(crate) fn id<T: TextId>(self, column: &'static str) -> Result<T, StoreError> {
        self.text(column).map(T::from_text)
    }

    pub(crate) fn opt_id<T: TextId>(self, column: &'static str) -> Result<Option<T>, StoreError> {
        Ok(self.opt_text(column)?.map(T::from_text))
    }

    pub(crate) fn flag(self, column: &'static str) -> Result<bool, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    /// A number of the wanted width; one that does not fit is corrupt.
    pub(crate) fn number<T: TryFrom<i64>>(self, column: &'static str) -> Result<T, StoreError> {
        let value: i64 = self.0.try_get(column)?;
        T::try_from(value).map_err(|_| StoreError::Corrupt { column })
    }

    pub(crate) fn time(self, column: &'static str) -> Result<UnixTime, StoreError> {
        Ok(UnixTime::from_nanos(self.0.try_get(column)?))
    }

    pub(crate) fn opt_time(self, column: &'static str) -> Result<Option<UnixTime>, StoreError> {
        let nanos: Option<i64> = self.0.try_get(column)?;
        Ok(nanos.map(UnixTime::from_nanos))
    }

    /// A value written as one of a few words, or in another form that `parse` knows.
    pub(crate) fn parsed<T>(
        self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        parse(&self.text(column)?).ok_or(StoreError::Corrupt { column })
    }

    pub(crate) fn json<T: DeserializeOwned>(self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|_| StoreError::Corrupt { column })
    }
}

/// The JSON text of a value.
pub(crate) fn json_text<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("stored records have text keys and no failing serializers")
}

/// The stored form of a time that may be missing.
pub(crate) fn opt_nanos(time: Option<UnixTime>) -> Option<i64> {
    time.map(UnixTime::as_nanos)
}
