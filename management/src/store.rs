//! The database: one file per table family, literal SQL with binds, a [`Scope`](crate::actor::Scope) first.
//!
//! Reads are methods of [`Store`], writes (and the reads that must agree with them) methods of [`Tx`].
//! Look-ups that find the account instead of being told it end in `_anywhere`. What is not there is `None`.
//!
//! SQLite in WAL mode: one writer, several readers, nobody waits for readers. A killed process loses no
//! committed transaction. The SQL keeps to what PostgreSQL understands as well.

pub mod access_log_pages;
pub mod access_logs;
pub mod accounts;
pub(crate) mod columns;
pub mod domains;
pub mod groups;
pub mod identities;
pub mod installation;
pub mod peers;
pub mod personal_tokens;
pub mod policies;
pub mod proxies;
pub mod proxy_tokens;
mod searches;
pub mod service_changes;
pub mod service_records;
pub mod service_statuses;
pub mod services;
pub mod setup_keys;
pub mod users;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Sqlite, SqliteConnection, SqlitePool, Transaction};

use searches::Searches;

const READERS: u32 = 4;

/// How long a writer waits for another process, such as the command line beside a running server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the database did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A value that must be unique is there already.
    #[error("{constraint} is there already")]
    Duplicate {
        /// The columns that had to be unique, such as `services.domain`.
        constraint: String,
    },
    /// A row refers to one that is not there.
    #[error("row refers to one that is not there")]
    Reference,
    /// A stored value cannot be understood.
    #[error("column {column} holds what this version does not understand")]
    Corrupt {
        /// The column.
        column: &'static str,
    },
    /// The database cannot be opened.
    #[error("cannot open database {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: sqlx::Error,
    },
    /// The tables cannot be brought to this version's shape.
    #[error("cannot bring the database to this version's shape")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A search waits behind others, or has too much to read.
    #[error("search takes too long")]
    Busy,
    /// Anything else.
    #[error("database error")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return Self::Database(error);
        };
        if database.is_unique_violation() {
            let message = database.message();
            let constraint = message.rsplit(": ").next().unwrap_or(message).to_owned();
            return Self::Duplicate { constraint };
        }
        if database.is_foreign_key_violation() {
            return Self::Reference;
        }
        Self::Database(error)
    }
}

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    searches: Searches,
}

impl Store {
    /// Opens the database file, makes it where there is none, and brings its tables to the present shape.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let fault = |source| StoreError::Open {
            path: path.into(),
            source,
        };
        // When the disk is full, the database itself ends a transaction that it cannot go on with. The connection
        // would count it as open for ever, and begin no other.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .before_acquire(|connection, _| {
                let usable = !connection.is_in_transaction();
                Box::pin(std::future::ready(Ok(usable)))
            })
            .connect_with(options.clone())
            .await
            .map_err(fault)?;
        sqlx::migrate!("./migrations")
            .run(&writer)
            .await
            .map_err(StoreError::Migrate)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone().read_only(true))
            .await
            .map_err(fault)?;
        let searches = Searches::open(options.read_only(true)).await.map_err(fault)?;
        Ok(Self {
            writer,
            readers,
            searches,
        })
    }

    /// Begins to write; waits for the writer before.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(Tx(self.writer.begin_with("BEGIN IMMEDIATE").await?))
    }

    /// Closes the files; what is running ends first, but searches are interrupted.
    pub async fn close(&self) {
        self.searches.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }

    pub(crate) fn reader(&self) -> &SqlitePool {
        &self.readers
    }
}

/// A transaction that writes. Dropped without [`Tx::commit`], it never happened.
pub struct Tx(Transaction<'static, Sqlite>);

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx(…)")
    }
}

impl Tx {
    /// Makes everything written so far last.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }

    pub(crate) fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }
}

#[cfg(test)]
mod tests;
