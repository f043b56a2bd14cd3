//! The login page in a real browser.

use meshgate_tests::Demo;
use meshgate_tests::browser::Browser;

#[tokio::test]
async fn pin_opens_the_asked_page() {
    let _turn = meshgate_tests::turn::alone().await;
    let demo = Demo::start().await;
    let service = demo.service("pin");
    let asked = format!(
        "https://{}:{}/deep/page?tab=2&q=a%20b",
        service.domain, demo.ready.https_port
    );
    let mut browser = Browser::start(&demo.ready.base_domain).await;

    browser.open(&asked).await;
    browser
        .wait_for(
            "the login page shows",
            "document.querySelector('form input[name=pin]') !== null",
        )
        .await;
    assert_eq!(
        browser
            .evaluate("document.querySelectorAll('script').length")
            .await,
        0
    );

    browser.type_into("pin", "000000").await;
    browser.press_enter().await;
    browser
        .wait_for(
            "the wrong PIN is told",
            "document.querySelector('[role=alert]') !== null",
        )
        .await;
    let alert = browser
        .evaluate("document.querySelector('[role=alert]').innerText")
        .await;
    assert!(alert.as_str().is_some_and(|text| text.contains("PIN")), "{alert}");

    browser.type_into("pin", service.secret()).await;
    browser.press_enter().await;
    browser
        .wait_for(
            "the asked page shows",
            "document.body.innerText.includes('/deep/page')",
        )
        .await;
    assert_eq!(browser.evaluate("location.href").await, asked.as_str());
    assert_eq!(
        browser.evaluate("document.cookie").await,
        "",
        "scripts cannot read the session"
    );

    browser.open(&asked.replace("tab=2", "tab=3")).await;
    browser
        .wait_for("the session holds", "document.body.innerText.includes('tab=3')")
        .await;
}

#[tokio::test]
async fn login_page_works_without_scripts_on_every_screen() {
    let _turn = meshgate_tests::turn::alone().await;
    let demo = Demo::start().await;
    let service = demo.service("secret");
    let url = format!("https://{}:{}/", service.domain, demo.ready.https_port);
    let mut browser = Browser::start(&demo.ready.base_domain).await;
    let mut backgrounds = Vec::new();
    for (width, scheme) in [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")] {
        browser.appear_as(width, scheme).await;
        browser.open(&url).await;
        browser
            .wait_for(
                "the login page shows",
                "document.querySelector('input[name=password]') !== null",
            )
            .await;

        let fits = "document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(
            browser.evaluate(fits).await,
            true,
            "{width} {scheme}: nothing sticks out"
        );
        let seen = "(() => { const box = document.querySelector('button').getBoundingClientRect(); \
                    return box.width >= 24 && box.height >= 24 && box.bottom <= innerHeight; })()";
        assert_eq!(
            browser.evaluate(seen).await,
            true,
            "{width} {scheme}: the button can be pressed"
        );
        backgrounds.push(
            browser
                .evaluate("getComputedStyle(document.body).backgroundColor")
                .await,
        );
    }
    assert_ne!(backgrounds[0], backgrounds[1], "light and dark differ");

    browser.disable_scripts().await;
    browser.open(&url).await;
    browser
        .wait_for(
            "the login page shows",
            "document.querySelector('input[name=password]') !== null",
        )
        .await;
    browser.type_into("password", service.secret()).await;
    browser.press_enter().await;
    browser
        .wait_for(
            "the service shows",
            "document.body.innerText.includes('\"method\"')",
        )
        .await;
}
