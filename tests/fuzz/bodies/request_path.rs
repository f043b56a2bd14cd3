//! Paths of requests: the normal form is a fixed point, and no prefix can be left by it.

use super::path::RequestPath;

/// The bytes are a path.
pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(path) = RequestPath::parse(text) else {
        return;
    };
    let again = RequestPath::parse(path.as_sent());
    assert_eq!(again.as_ref(), Ok(&path));
    for form in [path.as_sent(), path.for_matching()] {
        assert!(form.starts_with('/') && !form.starts_with("//"), "{path:?}");
        assert!(
            form.split('/').all(|segment| segment != "." && segment != ".."),
            "{path:?}"
        );
    }
    assert!(!path.for_matching().contains("//"), "{path:?}");
    let rest = path.without_prefix("/a/b");
    assert!(rest.starts_with('/') && !rest.starts_with("//"), "{path:?}");
    let first = path.for_matching().split('/').nth(1).unwrap_or_default();
    let rest = path.without_prefix(&format!("/{first}"));
    assert!(rest.len() <= path.as_sent().len(), "{path:?}");
}
