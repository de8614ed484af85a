//! Which capabilities it is granted, and which of them a recording shows to be used.

use std::collections::BTreeSet;

use super::{
    Severity,
    facts::{Known, Unknown},
    run::{Answer, Subject},
};
use crate::model::{
    capability,
    facts::{self, Risk},
};

pub(super) fn added(subject: &Subject<'_>) -> Known<Answer> {
    let (granted, evidence) = granted(subject)?;
    let beyond: Vec<&str> = granted
        .iter()
        .map(String::as_str)
        .filter(|name| !capability::DOCKER_DEFAULT.contains(name))
        .collect();
    if beyond.is_empty() {
        return Ok(Answer::Passed(format!("none beyond Docker's default; {evidence}")));
    }
    let worst = beyond.iter().map(|name| facts::of_capability(name)).max();
    let severity = if worst >= Some(Risk::High) { Severity::Error } else { Severity::Warning };
    let told = format!("{} beyond Docker's default: {}", beyond.len(), gravest(&beyond));
    Ok(Answer::found(severity, told).with([evidence]).tighten(unused(subject, &beyond)))
}

pub(super) fn kept(subject: &Subject<'_>) -> Known<Answer> {
    let (granted, evidence) = granted(subject)?;
    let default: Vec<&str> = granted
        .iter()
        .map(String::as_str)
        .filter(|name| capability::DOCKER_DEFAULT.contains(name))
        .collect();
    let needed = needed(subject);
    if let Some(needed) = &needed
        && default.iter().all(|name| needed.contains(name))
    {
        return Ok(Answer::Passed(format!("{}, all of which the recording uses", told(&default))));
    }
    // As many as a service may well need that drops all and adds back what it uses.
    const FEW: usize = 5;
    if needed.is_none() && default.len() <= FEW {
        return Ok(Answer::Passed(format!("{}; {evidence}", told(&default))));
    }
    let message = format!(
        "keeps {} of the {} that the engine grants by default",
        default.len(),
        capability::DOCKER_DEFAULT.len()
    );
    let default_names = gravest(&default);
    Ok(Answer::found(Severity::Warning, message)
        .with([default_names, evidence])
        .tighten(unused(subject, &default)))
}

fn told(names: &[&str]) -> String {
    if names.is_empty() { "no capability of the default".into() } else { gravest(names) }
}

/// The bounding set, by the kernel's word where there is one.
fn granted(subject: &Subject<'_>) -> Known<(BTreeSet<String>, String)> {
    if let Some(process) = &subject.facts.process {
        let bits = (0..64).filter(|bit| process.bounding & (1 << bit) != 0);
        let names = bits.map(|bit: u8| capability::display(bit).into_owned()).collect();
        return Ok((names, format!("CapBnd: {:016x} in /proc/PID/status", process.bounding)));
    }
    let granted = subject.facts.capabilities.as_ref()?;
    Ok((granted.clone(), format!("{} granted by its settings", granted.len())))
}

/// What a recording shows to be needed; `None` without one, or where it could not see capabilities.
fn needed<'a>(subject: &'a Subject<'_>) -> Option<BTreeSet<&'a str>> {
    let capabilities = &subject.inputs.profile?.capabilities;
    let names = capabilities.required.iter().map(|rule| rule.name.as_str());
    capabilities.known.then(|| names.collect())
}

fn unused(subject: &Subject<'_>, granted: &[&str]) -> Option<String> {
    subject.inputs.profile?;
    let Some(needed) = needed(subject) else {
        return Some(Unknown::because("the recording could not see capabilities").0);
    };
    let unused: Vec<&str> = granted.iter().copied().filter(|name| !needed.contains(name)).collect();
    Some(match unused.len() {
        0 => "the recording uses all of these".into(),
        count => format!("{count} of {} were never used: {}", granted.len(), gravest(&unused)),
    })
}

/// The names, the gravest first.
fn gravest(names: &[&str]) -> String {
    const SHOWN: usize = 14;
    let mut names = names.to_vec();
    names.sort_by_key(|name| (std::cmp::Reverse(facts::of_capability(name)), (*name).to_owned()));
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    names.join(", ") + &rest
}
