//! Every parser against arbitrary and mutated text: a bounded run, the same each time.

use profiler::fuzz::{PARSERS, run};
use proptest::prelude::*;

use crate::evidence::{BACKEND, COMMAND, FILTERED, LATE, parse};

/// Mutations of each seed by each parser.
const ROUNDS: usize = 25;

/// Seeds: what the parsers are for.
fn seeds() -> Vec<String> {
    let profile = |text| {
        let profile = profiler::model::policy::derive(&parse(text), &Default::default());
        [profiler::render::json::profile(&profile), profiler::render::seccomp::render(&profile)]
    };
    let mut seeds: Vec<String> = [BACKEND, COMMAND, FILTERED, LATE].map(str::to_owned).into();
    seeds.extend(profile(COMMAND));
    let search = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/search/minimise.json");
    seeds.push(fs_err::read_to_string(search).expect("reads"));
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus");
    let mut files: Vec<_> = fs_err::read_dir(corpus)
        .expect("lists")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "md"))
        .collect();
    files.sort();
    seeds.extend(files.into_iter().map(|path| fs_err::read_to_string(path).expect("reads")));
    seeds.extend(
        [crate::audit::COMPOSE, crate::audit::MANIFEST, crate::audit::TRIVY, crate::audit::GRYPE]
            .map(str::to_owned),
    );
    assert!(seeds.len() > 8);
    seeds
}

/// xorshift64*: the same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

/// What parsers trip over.
const TOKENS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "\\u0000",
    "\\ud800",
    "\u{202e}",
    "\u{feff}",
    "&a",
    "*a",
    "<<: *a",
    "\n- ",
    "\n  ",
    "---\n",
    "\"kind\": \"startup\"",
    "4.8.99999999999",
];

fn mutated(seed: &str, other: &str, dice: &mut Dice) -> String {
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        let end = (at + dice.below(40)).min(bytes.len());
        match dice.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let part = bytes.get(at..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, part);
            }
            2 => drop(bytes.splice(at..at, TOKENS[dice.below(TOKENS.len())].bytes())),
            3 => drop(bytes.splice(at..end, TOKENS[dice.below(TOKENS.len())].bytes())),
            4 => {
                let from = dice.below(other.len());
                let to = (from + dice.below(200)).min(other.len());
                bytes.splice(at..end, other.as_bytes().get(from..to).unwrap_or_default().to_vec());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn every_parser_has_a_target_of_the_fuzzer() {
    for parser in PARSERS {
        let name = format!("{parser:?}").to_lowercase();
        let path = format!("{}/../fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        let target = fs_err::read_to_string(path).expect("a target");
        assert!(target.contains(&format!("Parser::{parser:?}, bytes")), "{target}");
    }
}

#[test]
fn mutated_files_are_read_or_refused() {
    let seeds = seeds();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for seed in &seeds {
        for parser in PARSERS {
            run(parser, seed.as_bytes());
        }
        for _ in 0..ROUNDS {
            let text = mutated(seed, &seeds[dice.below(seeds.len())], &mut dice);
            for parser in PARSERS {
                run(parser, text.as_bytes());
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_read_or_refused(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        for parser in PARSERS {
            run(parser, text.as_bytes());
            run(parser, &bytes);
        }
    }
}

/// Work that grows with the square of the input would not end here.
#[test]
fn large_files_take_time_in_proportion() {
    const MANY: usize = 1_500;
    let rules = |rule: &dyn Fn(usize) -> String| {
        let rules: Vec<String> = (0..MANY).map(rule).collect();
        format!("{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{}]}}", rules.join(",\n"))
    };
    let names: Vec<String> = (0..MANY * 3).map(|n| format!("\"no_such_call_{n}\"")).collect();
    let arg = |n| format!("{{\"index\": 0, \"value\": {n}, \"op\": \"SCMP_CMP_GE\"}}");
    let texts = [
        "[".repeat(MANY * 10),
        "{\"a\":".repeat(MANY * 10),
        format!("a: &a [x]\nb: [{}]", vec!["*a"; MANY].join(",")),
        rules(&|_| "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"}".into()),
        rules(&|n| {
            format!(
                "{{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [{}]}}",
                arg(n)
            )
        }),
        format!(
            "{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{{\"names\": [{}], \"action\": \"SCMP_ACT_ALLOW\"}}]}}",
            names.join(",")
        ),
        format!(
            "{{\"schema_version\": 1, \"runs\": {{{}}}}}",
            names.iter().map(|n| format!("{n}: 1")).collect::<Vec<_>>().join(",")
        ),
    ];
    for text in texts {
        for parser in PARSERS {
            run(parser, text.as_bytes());
        }
    }
}
