//! Flags of `meshgate proxy`, made from the proxy's own table of settings so that the two never differ.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use meshgate_proxy::{CertificateSource, Config, SETTINGS};

const CA_DIR: &str = "ca-dir";

/// What was given by flag or environment.
#[derive(Clone, Debug)]
pub(crate) struct ProxyArgs {
    values: HashMap<&'static str, String>,
    ca_dir: Option<PathBuf>,
}

impl ProxyArgs {
    /// The settings as the proxy wants them. Flags win over the environment.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::from_lookup(&|name| self.values.get(name).cloned())?;
        if let Some(dir) = &self.ca_dir {
            config.certificates = CertificateSource::Authority(dir.clone());
        }
        Ok(config)
    }
}

impl FromArgMatches for ProxyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut values = HashMap::new();
        for setting in SETTINGS {
            let given = match setting.flag {
                "" => std::env::var(setting.env).ok(),
                _ => matches.get_one::<String>(setting.env).cloned(),
            };
            if let Some(value) = given {
                values.insert(setting.env, value);
            }
        }
        Ok(Self {
            values,
            ca_dir: matches.get_one::<PathBuf>(CA_DIR).cloned(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ProxyArgs {
    fn augment_args(command: Command) -> Command {
        let ca_dir = Arg::new(CA_DIR)
            .long(CA_DIR)
            .env("NB_PROXY_CA_DIRECTORY")
            .value_name("DIR")
            .value_parser(clap::value_parser!(PathBuf))
            .help(
                "Issue certificates for the cluster's domain from an authority of our own in this directory, \
                 in place of certificate files",
            );
        let flags = SETTINGS.iter().filter(|setting| !setting.flag.is_empty());
        let secret = "Set NB_PROXY_TOKEN to the proxy token (nbx_…) of `meshgate admin token create`; \
                      a token has no flag, as flags can be seen by every user of the machine.";
        command
            .args(flags.map(|setting| {
                let mut help = setting.help.to_owned();
                if !setting.default.is_empty() {
                    help = format!("{help} [default: {}]", setting.default);
                }
                let arg = Arg::new(setting.env)
                    .long(setting.flag)
                    .env(setting.env)
                    .hide_env_values(true)
                    .help(help);
                if setting.is_switch() {
                    arg.num_args(0..=1).default_missing_value("true")
                } else {
                    arg
                }
            }))
            .arg(ca_dir)
            .after_help(secret)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
