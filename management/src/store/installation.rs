//! Named values of the whole installation, such as the check value of the encryption key.

use crate::store::{Store, StoreError, Tx};

impl Store {
    /// The value of that name.
    pub async fn installation_value(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(
            sqlx::query_scalar("SELECT value FROM installation WHERE name = $1")
                .bind(name)
                .fetch_optional(self.reader())
                .await?,
        )
    }
}

impl Tx {
    /// Keeps a value under a name that has none yet; tells what is kept there now.
    pub async fn keep_installation_value(&mut self, name: &str, value: &str) -> Result<String, StoreError> {
        sqlx::query("INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(value)
            .execute(self.conn())
            .await?;
        Ok(
            sqlx::query_scalar("SELECT value FROM installation WHERE name = $1")
                .bind(name)
                .fetch_one(self.conn())
                .await?,
        )
    }
}
