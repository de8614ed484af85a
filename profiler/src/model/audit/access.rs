//! Who it is and what stands between it and the host: user, privileges, namespaces.

use super::{
    Severity,
    facts::{Known, Unknown},
    run::{Answer, Subject},
};

pub(super) fn root(subject: &Subject<'_>) -> Known<Answer> {
    let user = subject.facts.user.as_ref()?;
    let named = match user.setting.as_str() {
        "" => "no user is set".to_owned(),
        name => format!("the user is `{name}`"),
    };
    let evidence = subject
        .facts
        .process
        .as_ref()
        .map(|process| format!("Uid: {} in /proc/PID/status", process.uid));
    if *user.is_root.as_ref()? {
        Ok(Answer::found(Severity::Warning, format!("{named}: it runs as root")).with(evidence))
    } else {
        Ok(Answer::Passed(evidence.map_or(named.clone(), |uid| format!("{named} ({uid})"))))
    }
}

pub(super) fn privileged(subject: &Subject<'_>) -> Known<Answer> {
    yes_is_bad(
        &subject.facts.privileged,
        Severity::Error,
        "it is privileged: all capabilities, all devices, no filter",
        "not privileged",
    )
}

pub(super) fn new_privileges(subject: &Subject<'_>) -> Known<Answer> {
    if let Some(process) = &subject.facts.process {
        let told =
            format!("NoNewPrivs: {} in /proc/PID/status", u8::from(process.no_new_privileges));
        return Ok(if process.no_new_privileges {
            Answer::Passed(told)
        } else {
            Answer::found(Severity::Warning, "no-new-privileges is not set").with([told])
        });
    }
    Ok(if *subject.facts.no_new_privileges.as_ref()? {
        Answer::Passed("no-new-privileges is set".into())
    } else {
        Answer::found(Severity::Warning, "no-new-privileges is not set")
    })
}

pub(super) fn mac(subject: &Subject<'_>) -> Known<Answer> {
    let told = subject.facts.mac.as_ref()?;
    let is_off = |text: &&String| {
        text.ends_with("unconfined")
            || text.ends_with("label=disable")
            || text.ends_with("label:disable")
            || text.ends_with("type:spc_t")
            || text.ends_with("type=spc_t")
    };
    let off: Vec<String> = told.iter().filter(is_off).cloned().collect();
    Ok(if !off.is_empty() {
        Answer::found(Severity::Warning, "AppArmor or SELinux is switched off for it").with(off)
    } else if told.is_empty() {
        return Err(Unknown::because(
            "no profile is named, and whether the host has AppArmor or SELinux is not known",
        ));
    } else {
        Answer::Passed(told.join(", "))
    })
}

pub(super) fn host_pid(subject: &Subject<'_>) -> Known<Answer> {
    let shared = &subject.facts.namespaces.pid;
    yes_is_bad(
        shared,
        Severity::Error,
        "it is in the host's pid namespace",
        "a pid namespace of its own",
    )
}

pub(super) fn host_network(subject: &Subject<'_>) -> Known<Answer> {
    let shared = &subject.facts.namespaces.network;
    yes_is_bad(
        shared,
        Severity::Error,
        "it is in the host's network namespace",
        "not the host's network namespace",
    )
}

pub(super) fn host_ipc(subject: &Subject<'_>) -> Known<Answer> {
    let shared = &subject.facts.namespaces.ipc;
    yes_is_bad(
        shared,
        Severity::Error,
        "it is in the host's IPC namespace",
        "not the host's IPC namespace",
    )
}

pub(super) fn host_uts(subject: &Subject<'_>) -> Known<Answer> {
    let shared = &subject.facts.namespaces.uts;
    yes_is_bad(
        shared,
        Severity::Warning,
        "it is in the host's UTS namespace",
        "a UTS namespace of its own",
    )
}

pub(super) fn host_users(subject: &Subject<'_>) -> Known<Answer> {
    if let Some(process) = &subject.facts.process {
        let is_hosts = *process.is_hosts_root.as_ref()?;
        return Ok(if is_hosts {
            Answer::found(Severity::Note, "uid 0 in it is uid 0 of the host")
                .with(["uid_map of its first process maps 0 to 0".to_owned()])
        } else {
            Answer::Passed("uid 0 in it is another user of the host".into())
        });
    }
    yes_is_bad(
        &subject.facts.namespaces.user,
        Severity::Note,
        "it is in the host's user namespace",
        "a user namespace of its own",
    )
}

fn yes_is_bad(fact: &Known<bool>, severity: Severity, bad: &str, good: &str) -> Known<Answer> {
    Ok(if *fact.as_ref()? { Answer::found(severity, bad) } else { Answer::Passed(good.into()) })
}
