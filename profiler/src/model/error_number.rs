//! Error numbers and their names.
//!
//! Owns the table of <https://github.com/torvalds/linux/blob/v6.18/include/uapi/asm-generic/errno-base.h> and `errno.h`
//! beside it, which all ABIs of [`crate::model::arch`] share. Which error a denied call gets is in
//! [`crate::model::errno`].

use std::borrow::Cow;

/// The names of 1 and up; empty for the two numbers that have none.
#[rustfmt::skip]
const NAMES: [&str; 133] = [
    "EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "ENXIO", "E2BIG", "ENOEXEC",
    "EBADF", "ECHILD", "EAGAIN", "ENOMEM", "EACCES", "EFAULT", "ENOTBLK", "EBUSY",
    "EEXIST", "EXDEV", "ENODEV", "ENOTDIR", "EISDIR", "EINVAL", "ENFILE", "EMFILE",
    "ENOTTY", "ETXTBSY", "EFBIG", "ENOSPC", "ESPIPE", "EROFS", "EMLINK", "EPIPE",
    "EDOM", "ERANGE", "EDEADLK", "ENAMETOOLONG", "ENOLCK", "ENOSYS", "ENOTEMPTY", "ELOOP",
    "", "ENOMSG", "EIDRM", "ECHRNG", "EL2NSYNC", "EL3HLT", "EL3RST", "ELNRNG",
    "EUNATCH", "ENOCSI", "EL2HLT", "EBADE", "EBADR", "EXFULL", "ENOANO", "EBADRQC",
    "EBADSLT", "", "EBFONT", "ENOSTR", "ENODATA", "ETIME", "ENOSR", "ENONET",
    "ENOPKG", "EREMOTE", "ENOLINK", "EADV", "ESRMNT", "ECOMM", "EPROTO", "EMULTIHOP",
    "EDOTDOT", "EBADMSG", "EOVERFLOW", "ENOTUNIQ", "EBADFD", "EREMCHG", "ELIBACC", "ELIBBAD",
    "ELIBSCN", "ELIBMAX", "ELIBEXEC", "EILSEQ", "ERESTART", "ESTRPIPE", "EUSERS", "ENOTSOCK",
    "EDESTADDRREQ", "EMSGSIZE", "EPROTOTYPE", "ENOPROTOOPT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EOPNOTSUPP", "EPFNOSUPPORT",
    "EAFNOSUPPORT", "EADDRINUSE", "EADDRNOTAVAIL", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ECONNABORTED", "ECONNRESET",
    "ENOBUFS", "EISCONN", "ENOTCONN", "ESHUTDOWN", "ETOOMANYREFS", "ETIMEDOUT", "ECONNREFUSED", "EHOSTDOWN",
    "EHOSTUNREACH", "EALREADY", "EINPROGRESS", "ESTALE", "EUCLEAN", "ENOTNAM", "ENAVAIL", "EISNAM",
    "EREMOTEIO", "EDQUOT", "ENOMEDIUM", "EMEDIUMTYPE", "ECANCELED", "ENOKEY", "EKEYEXPIRED", "EKEYREVOKED",
    "EKEYREJECTED", "EOWNERDEAD", "ENOTRECOVERABLE", "ERFKILL", "EHWPOISON",
];

/// Second names of some numbers.
const ALIASES: [(&str, u32); 3] = [("EWOULDBLOCK", 11), ("EDEADLOCK", 35), ("ENOTSUP", 95)];

/// The name of an error number.
#[must_use]
pub fn name(number: u32) -> Option<&'static str> {
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    NAMES.get(index).copied().filter(|name| !name.is_empty())
}

/// The name, else `errno 4000`; `success` for 0, which a filter may give.
#[must_use]
pub fn display(number: u32) -> Cow<'static, str> {
    match (number, name(number)) {
        (0, _) => "success".into(),
        (_, Some(name)) => name.into(),
        (_, None) => format!("errno {number}").into(),
    }
}

/// The number of a name, or of digits.
#[must_use]
pub fn parse(text: &str) -> Option<u32> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.parse().ok();
    }
    let index = NAMES.iter().position(|name| *name == text && !text.is_empty());
    let alias = || ALIASES.iter().find(|(name, _)| *name == text).map(|&(_, number)| number);
    index.and_then(|index| u32::try_from(index + 1).ok()).or_else(alias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (text, number) in [
            ("EPERM", libc::EPERM),
            ("EAGAIN", libc::EAGAIN),
            ("EWOULDBLOCK", libc::EAGAIN),
            ("ENOSYS", libc::ENOSYS),
            ("EAFNOSUPPORT", libc::EAFNOSUPPORT),
            ("EHWPOISON", libc::EHWPOISON),
            ("7", 7),
        ] {
            assert_eq!(parse(text).map(u32::cast_signed), Some(number), "{text}");
        }
        for bad in ["", "eperm", "EPERMX", "-1", "+1", "1x", "99999999999"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_round_trip() {
        let named: Vec<_> = (0..200).filter_map(|number| Some((number, name(number)?))).collect();
        assert_eq!(named.len(), 131);
        assert!(named.iter().all(|&(number, name)| parse(name) == Some(number)));
        assert_eq!((&*display(0), &*display(1), &*display(41)), ("success", "EPERM", "errno 41"));
    }
}
