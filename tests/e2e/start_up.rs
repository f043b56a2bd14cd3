//! What a process says when it cannot do its work: what it tried, what answered, and an exit code.

use std::time::Duration;

use meshgate_tests::grpc::{self, Proto};
use meshgate_tests::process::{Finished, run};
use meshgate_tests::{Deployment, Folder, HttpVersion, Origin, Part, Process, eventually, ports};
use serde_json::json;

#[tokio::test]
async fn proxy_without_token_or_with_a_wrong_one_ends_with_a_clear_message() {
    let deployment = Deployment::shared().await;
    let rest = deployment.rest();
    let made = rest
        .post("/api/reverse-proxies/proxy-tokens", &json!({ "name": "gone" }))
        .await
        .unwrap();
    let revoked = made["plain_token"].as_str().unwrap().to_owned();
    rest.delete(&format!(
        "/api/reverse-proxies/proxy-tokens/{}",
        made["id"].as_str().unwrap()
    ))
    .await
    .unwrap();
    let unknown = "nbx_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0uCPlr";
    for token in [None, Some("hunter2"), Some(unknown), Some(revoked.as_str())] {
        let ended = run_proxy(&deployment.management_url(), token).await;

        assert!(ended.code.is_some_and(|code| code != 0), "{token:?}: {ended:?}");
        assert!(
            ended.stderr.to_lowercase().contains("token"),
            "{token:?}: {ended:?}"
        );
        if let Some(token) = token {
            assert!(
                !ended.said().contains(token),
                "secrets are not repeated: {ended:?}"
            );
        }
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    }
}

#[tokio::test]
async fn failed_tokens_of_a_neighbour_do_not_lock_a_good_one_out() {
    let mut deployment = Deployment::start().await;
    let server = deployment
        .management_url()
        .replace("http://", "")
        .parse()
        .unwrap();
    let mut limited = false;
    for _ in 0..12 {
        let bearer = format!("Bearer {GOOD_LOOKING_TOKEN}");
        let metadata = [("authorization", bearer.as_str())];
        let ended = grpc::call(
            server,
            "/management.ProxyService/SendAccessLog",
            &metadata,
            &Proto::new(),
        )
        .await;
        limited |= ended.unwrap().status == Some(8);
    }
    assert!(limited, "failures are limited");

    deployment.stop(Part::Proxy).await;
    deployment.launch(Part::Proxy);

    deployment.up(Part::Proxy).await;
}

#[tokio::test]
async fn proxy_says_which_management_address_it_tried_and_what_answered() {
    let origin = Origin::start().await;
    let closed = format!("http://127.0.0.1:{}", ports::reserve());
    let not_management = format!("http://{}", origin.address());
    let unresolvable = "http://no-such-host.invalid:33073".to_owned();
    for (address, answers) in [
        (closed, ["refused", "refused"]),
        (not_management, ["not a management", "404"]),
        (unresolvable, ["dns", "name"]),
    ] {
        let folder = Folder::new();
        let health = format!("127.0.0.1:{}", ports::reserve());
        let args = proxy_args(&folder, &address, &health);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let env = [
            ("NB_PROXY_TOKEN", GOOD_LOOKING_TOKEN),
            ("NB_PROXY_ALLOW_INSECURE", "true"),
        ];
        let proxy = Process::start("proxy", folder.path(), &args, &env);

        eventually(&format!("the proxy names {address} and the answer"), async || {
            told(&proxy, &address, answers)
        })
        .await;
    }
}

#[tokio::test]
async fn agent_says_which_management_address_it_tried_and_what_answered() {
    let origin = Origin::start().await;
    let closed = format!("http://127.0.0.1:{}", ports::reserve());
    let not_management = format!("http://{}", origin.address());
    for (address, answers) in [
        (closed, ["refused", "refused"]),
        (not_management, ["not a management", "404"]),
    ] {
        let folder = Folder::new();
        let state = folder.argument("state");
        let key = "00000000-0000-4000-8000-000000000000";
        let args = [
            "agent",
            "--management-url",
            &address,
            "--setup-key",
            key,
            "--state-dir",
            &state,
        ];
        let agent = Process::start("agent", folder.path(), &args, &[]);

        eventually(&format!("the agent names {address} and the answer"), async || {
            told(&agent, &address, answers)
        })
        .await;
    }
}

#[tokio::test]
async fn malformed_settings_are_refused_by_name() {
    let folder = Folder::new();
    let (state, file) = (folder.argument("state"), folder.argument("no-such-file"));
    for (args, named) in [
        (
            vec![
                "agent",
                "--management-url",
                "ftp://x",
                "--setup-key",
                "k",
                "--state-dir",
                &state,
            ],
            "--management-url",
        ),
        (
            vec![
                "agent",
                "--management-url",
                "http://127.0.0.1:1",
                "--allow-ports",
                "99999",
            ],
            "--allow-ports",
        ),
        (
            vec![
                "agent",
                "--management-url",
                "http://127.0.0.1:1",
                "--setup-key-file",
                &file,
            ],
            "no-such-file",
        ),
        (
            vec!["management", "--data-dir", &state, "--listen", "nonsense"],
            "--listen",
        ),
        (
            vec!["management", "--data-dir", &state, "--tls-cert", &file],
            "--tls-key",
        ),
        (vec!["no-such-command"], "no-such-command"),
    ] {
        let ended = run(&args, &[]).await;

        assert!(ended.code.is_some_and(|code| code != 0), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(named), "{args:?}: {ended:?}");
    }
}

#[tokio::test]
async fn agent_with_a_bad_setup_key_ends_with_a_clear_message() {
    let deployment = Deployment::shared().await;
    let rest = deployment.rest();
    let request =
        json!({ "name": "used up", "type": "one-off", "expires_in": 0, "auto_groups": [], "usage_limit": 1 });
    let made = rest.post("/api/setup-keys", &request).await.unwrap();
    let revoke = json!({ "revoked": true, "auto_groups": [] });
    rest.put(
        &format!("/api/setup-keys/{}", made["id"].as_str().unwrap()),
        &revoke,
    )
    .await
    .unwrap();
    let revoked = made["key"].as_str().unwrap();
    for key in [revoked, "00000000-0000-4000-8000-000000000000", "hunter2"] {
        let folder = Folder::new();
        let state = folder.argument("state");
        let management = deployment.management_url();
        let args = [
            "agent",
            "--management-url",
            &management,
            "--setup-key",
            key,
            "--state-dir",
            &state,
        ];

        let ended = run(&args, &[]).await;

        assert!(ended.code.is_some_and(|code| code != 0), "{key}: {ended:?}");
        assert!(
            ended.stderr.to_lowercase().contains("setup key"),
            "{key}: {ended:?}"
        );
        assert!(!ended.said().contains(key), "secrets are not repeated: {ended:?}");
    }
}

#[tokio::test]
async fn management_with_an_unusable_data_dir_ends_with_its_name() {
    let folder = Folder::new();
    let file = folder.argument("file");
    std::fs::write(&file, "not a folder").unwrap();
    let below = format!("{file}/data");
    let garbage = folder.argument("garbage");
    std::fs::create_dir(&garbage).unwrap();
    std::fs::write(format!("{garbage}/store.db"), vec![0x5a; 8192]).unwrap();
    for data in [&file, &below, &garbage] {
        let ended = run(
            &["management", "--data-dir", data, "--listen", "127.0.0.1:0"],
            &[],
        )
        .await;

        assert!(ended.code.is_some_and(|code| code != 0), "{data}: {ended:?}");
        assert!(ended.stderr.contains(data.as_str()), "{data}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    }
}

#[tokio::test]
async fn port_in_use_is_named() {
    let deployment = Deployment::shared().await;
    let folder = Folder::new();
    let data = folder.argument("data");
    let taken = deployment.management_url().replace("http://", "");

    let management = run(&["management", "--data-dir", &data, "--listen", &taken], &[]).await;
    let edge = deployment.edge().to_string();
    let health = format!("127.0.0.1:{}", ports::reserve());
    let mut args = proxy_args(&folder, &deployment.management_url(), &health);
    let addr = args.iter().position(|arg| arg == "--addr").unwrap();
    args[addr + 1].clone_from(&edge);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let env = [
        ("NB_PROXY_TOKEN", deployment.keys.proxy_token.as_str()),
        ("NB_PROXY_ALLOW_INSECURE", "true"),
    ];
    let proxy = run(&args, &env).await;
    let demo = run(&["demo", "--port", &deployment.edge().port().to_string()], &[]).await;

    for (ended, address) in [(management, taken), (proxy, edge.clone()), (demo, edge)] {
        assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
        assert!(ended.stderr.contains(&address), "{address}: {ended:?}");
        assert!(ended.stderr.to_lowercase().contains("in use"), "{ended:?}");
    }
}

#[tokio::test]
async fn admin_commands_say_what_is_wrong() {
    let folder = Folder::new();
    let data = folder.argument("data");
    let early = ["admin", "setup-key", "create", "--data-dir", &data, "--name", "x"];
    let early = run(&early, &[]).await;
    assert!(
        early.code.is_some_and(|code| code != 0),
        "there is no account yet: {early:?}"
    );
    assert!(early.stderr.contains("account"), "{early:?}");

    let first = run(
        &["admin", "init", "--data-dir", &data, "--email", "a@example.test"],
        &[],
    )
    .await;
    assert!(first.line("Token:").starts_with("nbp_"), "{first:?}");
    let again = run(
        &["admin", "init", "--data-dir", &data, "--email", "a@example.test"],
        &[],
    )
    .await;
    assert!(
        again.code.is_some_and(|code| code != 0),
        "a second owner is not made by accident: {again:?}"
    );
    assert!(!again.said().contains("nbp_"), "{again:?}");
    let unknown = run(
        &[
            "admin",
            "token",
            "revoke",
            "--data-dir",
            &data,
            "d0000000000000000000",
        ],
        &[],
    )
    .await;
    assert!(unknown.code.is_some_and(|code| code != 0), "{unknown:?}");
    let expiring = [
        "admin",
        "token",
        "create",
        "--data-dir",
        &data,
        "--name",
        "x",
        "--expires-in",
        "365d",
    ];
    assert!(run(&expiring, &[]).await.line("Token:").starts_with("nbx_"));
}

#[tokio::test]
async fn proxy_waits_for_a_management_that_comes_later() {
    let mut deployment = Deployment::set_up().await;
    for part in [Part::Proxy, Part::Agent] {
        deployment.launch(part);
    }
    let refused = [Part::Proxy, Part::Agent].map(|part| deployment.process(part));
    for process in refused {
        eventually("both have seen that nobody answers", async || {
            if process.log().to_lowercase().contains("refused") {
                Ok(())
            } else {
                Err("not yet")
            }
        })
        .await;
    }

    for part in [Part::Management, Part::Proxy, Part::Agent] {
        if part == Part::Management {
            deployment.launch(part);
        }
        deployment.up(part).await;
    }

    let service = deployment.publish("later", meshgate_tests::Access::Open).await;
    assert!(
        deployment
            .client(HttpVersion::H2)
            .expect(&service.domain, "/", 200)
            .await
            .is_ok()
    );
}

/// Right length, prefix and checksum, as management would have made it.
const GOOD_LOOKING_TOKEN: &str = "nbx_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0uCPlr";

async fn run_proxy(management: &str, token: Option<&str>) -> Finished {
    let folder = Folder::new();
    let health = format!("127.0.0.1:{}", ports::reserve());
    let args = proxy_args(&folder, management, &health);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut env = vec![("NB_PROXY_ALLOW_INSECURE", "true")];
    env.extend(token.map(|token| ("NB_PROXY_TOKEN", token)));
    let ended = tokio::time::timeout(Duration::from_secs(30), run(&args, &env)).await;
    ended.unwrap_or_else(|_| panic!("the proxy runs on with the token {token:?}"))
}

fn proxy_args(folder: &Folder, management: &str, health: &str) -> Vec<String> {
    let (ca, state) = (folder.argument("ca"), folder.argument("state"));
    let reach = [
        "proxy",
        "--mgmt",
        management,
        "--addr",
        "127.0.0.1:0",
        "--domain",
        "other.test",
    ];
    let own = ["--health-addr", health, "--ca-dir", &ca, "--state-dir", &state];
    reach
        .iter()
        .chain(&own)
        .map(|argument| (*argument).to_owned())
        .collect()
}

/// A log line that names the address and one of the words for what answered.
fn told(process: &Process, address: &str, answers: [&str; 2]) -> Result<(), String> {
    let log = process.log();
    let host = address.trim_start_matches("http://");
    let told = log.lines().any(|line| {
        let rest = line.replace(address, "").to_lowercase();
        line.contains(host) && answers.iter().any(|answer| rest.contains(answer))
    });
    if told { Ok(()) } else { Err(log) }
}
