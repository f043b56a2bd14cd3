//! Rules that come before authentication: address ranges, countries, reputation.

use meshgate_proto::{Cidr, CountryCode};

use super::invalid;
use crate::error::UseCaseError;
use crate::services::input::RestrictionsInput;
use crate::store::service_records::StoredRestrictions;

const MAX_CIDRS: usize = 200;
const MAX_COUNTRIES: usize = 50;

pub(super) fn check(input: RestrictionsInput) -> Result<StoredRestrictions, UseCaseError> {
    if !matches!(input.crowdsec_mode.as_str(), "" | "off" | "enforce" | "observe") {
        let text = format!(
            "unknown crowdsec_mode {:?}: use off, enforce or observe",
            input.crowdsec_mode
        );
        return invalid(text);
    }
    Ok(StoredRestrictions {
        allowed_cidrs: cidrs("allowed_cidrs", input.allowed_cidrs)?,
        blocked_cidrs: cidrs("blocked_cidrs", input.blocked_cidrs)?,
        allowed_countries: countries("allowed_countries", &input.allowed_countries)?,
        blocked_countries: countries("blocked_countries", &input.blocked_countries)?,
        crowdsec_mode: input.crowdsec_mode,
    })
}

fn cidrs(field: &str, texts: Vec<String>) -> Result<Vec<String>, UseCaseError> {
    if texts.len() > MAX_CIDRS {
        return invalid(format!("{field} may have {MAX_CIDRS} entries"));
    }
    for text in &texts {
        if !text.contains('/') {
            return invalid(format!("{field}: {text:?} has no prefix length, such as /32"));
        }
        if let Err(error) = text.parse::<Cidr>() {
            return invalid(format!("{field}: {text:?}: {error}"));
        }
    }
    Ok(texts)
}

fn countries(field: &str, texts: &[String]) -> Result<Vec<String>, UseCaseError> {
    if texts.len() > MAX_COUNTRIES {
        return invalid(format!("{field} may have {MAX_COUNTRIES} entries"));
    }
    texts
        .iter()
        .map(|text| match CountryCode::new(text) {
            Some(code) => Ok(code.as_str().to_owned()),
            None => invalid(format!("{field}: {text:?} is not a country code of two letters")),
        })
        .collect()
}
