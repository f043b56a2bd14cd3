//! Longest path prefix by whole segments.

use rustc_hash::FxHashMap;

/// Why a path cannot stand in a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPath {
    /// It is not absolute, or carries what normalised paths never carry.
    #[error("path {0:?} must begin with a slash and hold no empty, dot, query or control parts")]
    Form(String),
    /// Two entries for one prefix.
    #[error("path {0:?} is given twice")]
    Twice(String),
}

/// Values by path prefix; `/api` matches `/api` and `/api/v1`, never `/apix`.
///
/// A trailing slash of a prefix does not count. Lookups cost at most as many hash look-ups as the longest
/// prefix has bytes, however long the asked path is.
#[derive(Clone, Debug)]
pub(crate) struct PathTable<T> {
    entries: FxHashMap<Box<str>, T>,
    longest: usize,
}

impl<T> Default for PathTable<T> {
    fn default() -> Self {
        Self {
            entries: FxHashMap::default(),
            longest: 0,
        }
    }
}

impl<T> PathTable<T> {
    /// Adds a prefix; empty text counts as `/`.
    pub(crate) fn insert(&mut self, path: &str, value: T) -> Result<(), InvalidPath> {
        let key = key(path).ok_or_else(|| InvalidPath::Form(path.to_owned()))?;
        if self.entries.contains_key(key) {
            return Err(InvalidPath::Twice(path.to_owned()));
        }
        self.longest = self.longest.max(key.len());
        self.entries.insert(key.into(), value);
        Ok(())
    }

    /// The value of the longest prefix of a normalised path, and that prefix without trailing slash ("" for `/`).
    pub(crate) fn find<'a>(&'a self, path: &str) -> Option<(&'a T, &'a str)> {
        let bytes = path.as_bytes();
        let mut end = bytes.len().min(self.longest);
        loop {
            let on_boundary = end == 0 || bytes.get(end).is_none_or(|byte| *byte == b'/');
            let found = path.get(..end).filter(|_| on_boundary);
            if let Some((prefix, value)) = found.and_then(|prefix| self.entries.get_key_value(prefix)) {
                return Some((value, prefix));
            }
            end = end.checked_sub(1)?;
        }
    }

    /// All values, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.values()
    }
}

fn key(path: &str) -> Option<&str> {
    let key = path.strip_suffix('/').unwrap_or(path);
    if key.is_empty() {
        return Some(key);
    }
    let segments = key.strip_prefix('/')?;
    let fine = segments.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !segments.contains(|c: char| c.is_control() || matches!(c, '?' | '#' | '\\'));
    fine.then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(paths: &[&str]) -> PathTable<String> {
        let mut table = PathTable::default();
        for path in paths {
            table.insert(path, (*path).to_owned()).unwrap();
        }
        table
    }

    #[test]
    fn matches_whole_segments_only() {
        let table = table(&["/admin", "/admin/users/"]);

        assert_eq!(table.find("/admin").unwrap().1, "/admin");
        assert_eq!(table.find("/admin/").unwrap().1, "/admin");
        assert_eq!(table.find("/admin/x").unwrap().1, "/admin");
        assert_eq!(table.find("/admin/users").unwrap().1, "/admin/users");
        assert_eq!(table.find("/admin/users/7").unwrap().1, "/admin/users");
        assert!(table.find("/administrator").is_none());
        assert!(table.find("/").is_none());
    }

    #[test]
    fn root_takes_what_nothing_else_takes() {
        let table = table(&["/", "/api"]);

        assert_eq!(table.find("/apix").unwrap().1, "");
        assert_eq!(table.find("/").unwrap().1, "");
        assert_eq!(table.find("*").unwrap().1, "");
        assert_eq!(table.find("/api/v1").unwrap().1, "/api");
    }

    #[test]
    fn refuses_paths_that_never_match_or_match_twice() {
        let mut table = PathTable::default();
        table.insert("/a", ()).unwrap();

        assert_eq!(table.insert("/a/", ()), Err(InvalidPath::Twice("/a/".into())));
        for path in [
            "a", "//", "/a//b", "/a/../b", "/./a", "/a?x", "/a#x", "/a\\b", "/a\nb",
        ] {
            assert_eq!(
                table.insert(path, ()),
                Err(InvalidPath::Form(path.into())),
                "{path}"
            );
        }
    }

    fn naive<'a>(paths: &'a [String], asked: &str) -> Option<&'a str> {
        let matching = paths
            .iter()
            .map(|path| path.trim_end_matches('/'))
            .filter(|path| {
                asked
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
        matching.max_by_key(|path| path.len())
    }

    proptest! {
        #[test]
        fn agrees_with_a_scan_of_all_prefixes(
            paths in proptest::collection::vec("(/[ab]{1,2}){1,4}", 0..8),
            asked in "(/[ab]{0,2}){0,6}/?",
        ) {
            let mut table = PathTable::default();
            for path in &paths {
                let _ = table.insert(path, path.clone());
            }

            prop_assert_eq!(table.find(&asked).map(|found| found.1), naive(&paths, &asked));
        }

        #[test]
        fn never_panics(path in "\\PC{0,40}", asked in "\\PC{0,40}") {
            let mut table = PathTable::default();
            let _ = table.insert(&path, ());
            let _ = table.insert(&format!("/{path}"), ());
            table.find(&asked);
        }
    }
}
