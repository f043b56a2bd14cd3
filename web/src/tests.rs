//! One look at every sample of every page: structure, policy and escaping.

use proptest::prelude::*;

use crate::{ErrorContext, ErrorPage, Format, LoginError, LoginMethod, LoginPage, Nonce, Via};

#[test]
fn every_sample_has_one_heading_and_a_language() {
    for html in all_samples() {
        assert_eq!(count(&html, "<h1"), 1, "{html}");
        assert_eq!(count(&html, "<main"), 1, "{html}");
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{html}");
    }
}

#[test]
fn every_visible_input_has_a_label() {
    for html in all_samples() {
        for tag in tags(&html, "input").filter(|tag| !tag.contains("type=\"hidden\"")) {
            let id = attribute(tag, "id").expect("a visible input has an id");
            assert_eq!(count(&html, &format!("<label for=\"{id}\"")), 1, "{html}");
            assert_eq!(count(&html, &format!("id=\"{id}\"")), 1, "{html}");
        }
    }
}

#[test]
fn no_sample_needs_more_than_the_policy_allows() {
    let nonce = nonce();
    for html in all_samples() {
        assert_eq!(count(&html, "<style"), 1);
        assert_eq!(count(&html, &format!("<style nonce=\"{nonce}\">")), 1);
        assert_eq!(count(&html, "<script"), 0);
        assert_eq!(count(&html, "javascript:"), 0);
        assert_eq!(count(&html, "src="), 0);
        for tag in html.split('<').filter_map(|rest| rest.split('>').next()) {
            let names = tag
                .split_ascii_whitespace()
                .skip(1)
                .filter_map(|part| part.split_once('='));
            for (name, _) in names {
                assert!(name != "style" && !name.starts_with("on"), "<{tag}>");
            }
        }
        for link in tags(&html, "link") {
            assert!(
                attribute(link, "href").is_some_and(|href| href.starts_with("data:")),
                "{link}"
            );
        }
    }
}

#[test]
fn tags_are_closed_in_order() {
    const VOID: [&str; 7] = ["!doctype", "meta", "link", "input", "rect", "path", "circle"];
    for html in all_samples() {
        let (before, rest) = html.split_once("<style").expect("a style element");
        let (_, after) = rest.split_once("</style>").expect("the end of the style element");
        let mut open = Vec::new();
        for tag in format!("{before}{after}").split('<').skip(1) {
            let name =
                tag.split(|c: char| c.is_whitespace() || c == '>' || c == '/' && !tag.starts_with('/'));
            let name = name.into_iter().next().unwrap_or_default();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name.to_owned()), "{html}"),
                None if VOID.contains(&name) => {}
                None => open.push(name.to_owned()),
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }
}

#[test]
fn login_forms_carry_their_field_and_the_way_back() {
    for page in LoginPage::samples() {
        let html = page.render_html(&nonce());

        assert_eq!(
            count(&html, "<form method=\"post\" action=\"/.meshgate/login\">"),
            page.methods.len()
        );
        assert_eq!(count(&html, " autofocus"), 1);
        assert_eq!(count(&html, "role=\"alert\""), usize::from(page.error.is_some()));
        for method in &page.methods {
            assert!(
                html.contains(&format!("name=\"{}\" type=\"password\"", method.field())),
                "{html}"
            );
        }
        assert!(
            html.contains("name=\"return_to\" value=\"/albums?year=2024&#38;sort=new\""),
            "{html}"
        );
    }
}

#[test]
fn a_wrong_secret_marks_only_its_own_field() {
    let page = LoginPage {
        methods: vec![LoginMethod::Password, LoginMethod::Pin],
        error: Some(LoginError::Wrong(LoginMethod::Pin)),
        ..login("Album")
    };

    let html = page.render_html(&nonce());

    assert_eq!(page.status(), 401);
    let invalid: Vec<_> = tags(&html, "input")
        .filter(|tag| tag.contains("aria-invalid"))
        .collect();
    assert_eq!(invalid.len(), 1);
    assert!(invalid[0].contains("id=\"pin\""), "{invalid:?}");
}

#[test]
fn a_service_without_a_name_is_shown_by_its_host() {
    let page = LoginPage {
        service_name: String::new(),
        ..login("")
    };

    assert!(
        page.render_html(&nonce())
            .contains("</span> app.example.com</h1>")
    );
}

#[test]
fn errors_mark_the_failing_hop_once_in_every_format() {
    for page in ErrorPage::samples() {
        let html = page.render_html(&nonce());
        let text = page.render_text();
        let json: serde_json::Value = serde_json::from_str(&page.render_json()).unwrap();

        assert_eq!(count(&html, "<li class=\"failed\">"), 1, "{html}");
        assert_eq!(count(&html, "failed here"), 1, "{html}");
        assert_eq!(count(&text, "(failed here)"), 1, "{text}");
        assert_eq!(json["error"]["status"], page.status());
        assert_eq!(json["error"]["request_id"], "c8k3v1p2m5s7d9f0q4tg");
        for body in [html, text, json.to_string()] {
            assert!(body.contains(&page.status().to_string()), "{body}");
            assert!(body.contains("c8k3v1p2m5s7d9f0q4tg"), "{body}");
        }
    }
}

#[test]
fn text_keeps_control_characters_from_the_terminal() {
    let page = error("a\u{1b}[2Jb\r\nc\u{9b}d");

    assert!(
        page.render_text().contains("host: a[2Jbcd\n"),
        "{}",
        page.render_text()
    );
}

proptest! {
    #[test]
    fn no_input_leaves_its_place(hostile in hostile_text()) {
        let nonce = nonce();
        let pages = [
            (login(&hostile).render_html(&nonce), login("").render_html(&nonce)),
            (error(&hostile).render_html(&nonce), error("x").render_html(&nonce)),
        ];

        for (html, harmless) in pages {
            for mark in ["<", ">", "\"", "'"] {
                prop_assert_eq!(count(&html, mark), count(&harmless, mark), "{} in {}", mark, html);
            }
        }
    }

    #[test]
    fn json_holds_the_input_unchanged(hostile in hostile_text()) {
        let json: serde_json::Value = serde_json::from_str(&error(&hostile).render_json()).unwrap();

        prop_assert_eq!(&json["error"]["host"], &hostile);
    }
}

fn hostile_text() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("<script>alert(1)</script>".to_owned()),
        Just("\"><img onerror='x'>".to_owned()),
        Just("</style>".to_owned()),
        Just("{{ nonce }}".to_owned()),
        Just("&lt;".to_owned()),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(pieces, 1..12).prop_map(|pieces| pieces.concat())
}

fn login(text: &str) -> LoginPage {
    LoginPage {
        service_name: format!("Album {text}"),
        host: if text.is_empty() {
            "app.example.com".to_owned()
        } else {
            text.to_owned()
        },
        methods: vec![LoginMethod::Password, LoginMethod::Pin],
        form_action: format!("/.meshgate/login{text}"),
        return_to: format!("/{text}"),
        error: None,
        request_id: text.to_owned(),
    }
}

fn error(text: &str) -> ErrorPage {
    let context = ErrorContext {
        host: text.to_owned(),
        request_id: text.to_owned(),
        via: Via::Peer,
    };
    ErrorPage::new(crate::ErrorKind::UnknownHost, context)
}

fn nonce() -> Nonce {
    Nonce::from_bytes(*b"sixteen bytes ok")
}

fn all_samples() -> Vec<String> {
    let nonce = nonce();
    let logins = LoginPage::samples()
        .into_iter()
        .map(|page| page.render_html(&nonce));
    let errors = ErrorPage::samples()
        .into_iter()
        .map(|page| page.render(Format::Html, &nonce));
    logins.chain(errors).collect()
}

fn count(text: &str, needle: &str) -> usize {
    text.matches(needle).count()
}

fn tags<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("<{name} ");
    html.match_indices(&start)
        .map(|(at, _)| html[at..].split_once('>').map_or("", |(tag, _)| tag))
        .collect::<Vec<_>>()
        .into_iter()
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}
