//! `meshgate admin`: what must be possible before anybody can log in, done on the data directory itself.
//!
//! Works while the server runs and while it does not. The secret of what is made is printed once, on a line of
//! its own (`Token: …`, `Setup key: …`), for scripts to pick up.

mod duration;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use meshgate_management::accounts::NewOwner;
use meshgate_management::admin::{Admin, FirstAdmin, TokenReach};
use meshgate_management::config::{Config, DEFAULT_DNS_DOMAIN};
use meshgate_management::setup_keys::NewSetupKey;
use meshgate_management::tokens::NewProxyToken;
use meshgate_proto::{AccountId, SystemClock, TokenId, UnixTime};
use url::Url;

use self::duration::Seconds;

/// Days that the first admin's token is good for.
pub(crate) const FIRST_TOKEN_DAYS: u16 = 365;

#[derive(Subcommand, Debug)]
pub(crate) enum AdminCommand {
    /// Make the account, its owner and a first access token for the REST API.
    Init(InitArgs),
    /// Tokens of proxies.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Personal access tokens for the REST API.
    #[command(subcommand)]
    Pat(PatCommand),
    /// Keys with which machines join.
    #[command(subcommand)]
    SetupKey(SetupKeyCommand),
}

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Make a proxy token.
    Create(TokenCreateArgs),
    /// List the proxy tokens.
    List(DataArgs),
    /// Take all power from a token, by its id.
    Revoke(TokenRevokeArgs),
}

#[derive(Subcommand, Debug)]
pub(crate) enum PatCommand {
    /// Make a personal access token.
    Create(PatCreateArgs),
    /// List the personal access tokens of a user.
    List(PatListArgs),
    /// Take all power from a token, by its id.
    Revoke(TokenRevokeArgs),
}

#[derive(Subcommand, Debug)]
pub(crate) enum SetupKeyCommand {
    /// Make a setup key.
    Create(SetupKeyCreateArgs),
    /// List the setup keys.
    List(AccountArgs),
}

#[derive(Args, Debug)]
pub(crate) struct DataArgs {
    /// The management server's data directory.
    #[arg(
        long,
        env = "MESHGATE_DATA_DIR",
        default_value = "/var/lib/meshgate",
        value_name = "DIR"
    )]
    data_dir: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct AccountArgs {
    #[command(flatten)]
    data: DataArgs,

    /// The account; not needed where there is only one.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    data: DataArgs,

    /// E-mail address of the owner.
    #[arg(long)]
    email: String,

    /// Name of the owner; default: the address.
    #[arg(long)]
    name: Option<String>,

    /// Domain under which peers find each other by name.
    #[arg(long, default_value = DEFAULT_DNS_DOMAIN)]
    domain: String,

    /// Days that the token is good for.
    #[arg(long, default_value_t = FIRST_TOKEN_DAYS, value_parser = clap::value_parser!(u16).range(1..=365))]
    days: u16,
}

#[derive(Args, Debug)]
pub(crate) struct TokenCreateArgs {
    #[command(flatten)]
    account: AccountArgs,

    /// What the token is called.
    #[arg(long)]
    name: String,

    /// How long it is good, such as 365d or 12h; default: for ever.
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<Seconds>,

    /// Whose services a proxy with this token serves.
    #[arg(long, value_enum, default_value_t = Reach::All)]
    reach: Reach,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Reach {
    /// Those of every account, now and later.
    All,
    /// Those of the account given by --account, or of the only one.
    Account,
}

#[derive(Args, Debug)]
pub(crate) struct TokenRevokeArgs {
    #[command(flatten)]
    data: DataArgs,

    /// Id of the token, as `list` shows it.
    id: String,
}

#[derive(Args, Debug)]
pub(crate) struct PatCreateArgs {
    #[command(flatten)]
    account: AccountArgs,

    /// What the token is called.
    #[arg(long)]
    name: String,

    /// Days that it is good for.
    #[arg(long, default_value_t = FIRST_TOKEN_DAYS, value_parser = clap::value_parser!(u16).range(1..=365))]
    days: u16,

    /// Whom it stands for, by id or e-mail address; default: the owner.
    #[arg(long)]
    user: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct PatListArgs {
    #[command(flatten)]
    account: AccountArgs,

    /// Whose tokens, by id or e-mail address; default: the owner's.
    #[arg(long)]
    user: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SetupKeyCreateArgs {
    #[command(flatten)]
    account: AccountArgs,

    /// What the key is called.
    #[arg(long)]
    name: String,

    /// Let in one machine only.
    #[arg(long)]
    one_off: bool,

    /// How long it is good, such as 30d; default: for ever.
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<Seconds>,

    /// Group that its machines get, by id or name; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,

    /// Its machines vanish when they stay away.
    #[arg(long)]
    ephemeral: bool,
}

/// Runs one command.
pub(crate) async fn run(command: AdminCommand) -> anyhow::Result<()> {
    match command {
        AdminCommand::Init(args) => init(args).await,
        AdminCommand::Token(TokenCommand::Create(args)) => create_token(args).await,
        AdminCommand::Token(TokenCommand::List(args)) => list_tokens(args).await,
        AdminCommand::Token(TokenCommand::Revoke(args)) | AdminCommand::Pat(PatCommand::Revoke(args)) => {
            open(args.data)
                .await?
                .revoke_token(&TokenId::new(args.id))
                .await?;
            Ok(())
        }
        AdminCommand::Pat(PatCommand::Create(args)) => create_pat(args).await,
        AdminCommand::Pat(PatCommand::List(args)) => list_pats(args).await,
        AdminCommand::SetupKey(SetupKeyCommand::Create(args)) => create_setup_key(args).await,
        AdminCommand::SetupKey(SetupKeyCommand::List(args)) => list_setup_keys(args).await,
    }
}

async fn open(data: DataArgs) -> anyhow::Result<Admin> {
    open_dir(data.data_dir).await
}

/// Opens the management server's data directory.
pub(crate) async fn open_dir(dir: impl Into<PathBuf>) -> anyhow::Result<Admin> {
    let unused = Url::parse("http://127.0.0.1").context("a fixed URL")?;
    Ok(Admin::open(&Config::new(dir, unused), Arc::new(SystemClock)).await?)
}

async fn init(args: InitArgs) -> anyhow::Result<()> {
    let owner = NewOwner {
        name: args.name.unwrap_or_else(|| args.email.clone()),
        email: args.email,
    };
    let admin = open(args.data).await?;
    let FirstAdmin {
        account,
        owner,
        token,
    } = admin.create_first_admin(&args.domain, &owner, args.days).await?;
    print(&[
        ("Account", account.as_str()),
        ("Owner", owner.as_str()),
        ("Token", token.expose()),
    ]);
    Ok(())
}

async fn create_token(args: TokenCreateArgs) -> anyhow::Result<()> {
    let account = args.account.account.map(AccountId::new);
    let reach = match args.reach {
        Reach::All => TokenReach::Everywhere,
        Reach::Account => TokenReach::Account(account),
    };
    let new = NewProxyToken {
        name: args.name,
        expires_in: args.expires_in.unwrap_or_default().into(),
    };
    let made = open(args.account.data)
        .await?
        .create_proxy_token(reach, new)
        .await?;
    print(&[("Id", made.row.id.as_str()), ("Token", made.token.expose())]);
    Ok(())
}

async fn list_tokens(args: DataArgs) -> anyhow::Result<()> {
    let now = UnixTime::from(std::time::SystemTime::now());
    for token in open(args).await?.proxy_tokens().await? {
        let state = if token.is_valid(now) { "valid" } else { "ended" };
        let reach = token
            .account_id
            .as_ref()
            .map_or("all accounts", AccountId::as_str);
        line(&[token.id.as_str(), &token.name, state, reach]);
    }
    Ok(())
}

async fn create_pat(args: PatCreateArgs) -> anyhow::Result<()> {
    let account = args.account.account.map(AccountId::new);
    let admin = open(args.account.data).await?;
    let token = admin
        .create_personal_token(account, args.user.as_deref(), &args.name, args.days)
        .await?;
    print(&[("Token", token.expose())]);
    Ok(())
}

async fn list_pats(args: PatListArgs) -> anyhow::Result<()> {
    let account = args.account.account.map(AccountId::new);
    for token in open(args.account.data)
        .await?
        .personal_tokens(account, args.user.as_deref())
        .await?
    {
        line(&[token.id.as_str(), &token.name]);
    }
    Ok(())
}

async fn create_setup_key(args: SetupKeyCreateArgs) -> anyhow::Result<()> {
    let new = NewSetupKey {
        name: args.name,
        kind: if args.one_off { "one-off" } else { "reusable" }.to_owned(),
        expires_in: args.expires_in.unwrap_or_default().into(),
        auto_groups: args.groups,
        usage_limit: i64::from(args.one_off),
        ephemeral: args.ephemeral,
        allow_extra_dns_labels: false,
    };
    let account = args.account.account.map(AccountId::new);
    let made = open(args.account.data)
        .await?
        .create_setup_key(account, new)
        .await?;
    print(&[("Id", made.row.id.as_str()), ("Setup key", made.key.expose())]);
    Ok(())
}

async fn list_setup_keys(args: AccountArgs) -> anyhow::Result<()> {
    for key in open(args.data)
        .await?
        .setup_keys(args.account.map(AccountId::new))
        .await?
    {
        line(&[key.id.as_str(), &key.name, &key.key_secret]);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "scripts read the answers of these commands")]
fn print(facts: &[(&str, &str)]) {
    for (name, value) in facts {
        println!("{name}: {value}");
    }
}

#[expect(clippy::print_stdout, reason = "scripts read the answers of these commands")]
fn line(columns: &[&str]) {
    println!("{}", columns.join("\t"));
}
