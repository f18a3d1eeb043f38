//! What cgroup version 2 has in place of `devices.allow`: a program that the kernel asks about every access to a device
//! (upstream: cgroups/devices of runc).
//!
//! It is made from the same rules, one block of instructions a rule: the first that fits allows, the end refuses. The
//! kernel hands over `struct bpf_cgroup_dev_ctx { access << 16 | type, major, minor }`.

use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd as _;

use super::DeviceRule;
use crate::Error;
use crate::disk::io_error;
use crate::sys::bpf;

const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

/// Attaches a filter to a cgroup. False where this kernel has none to give.
pub(super) fn restrict(directory: &Path, allowed: &[DeviceRule]) -> Result<bool, Error> {
    let rules = allowed.iter().map(|rule| parse(rule)).collect::<Option<Vec<_>>>();
    let rules = rules.ok_or_else(|| Error::Invalid { field: "devices", reason: format!("{allowed:?}") })?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|err| io_error("open cgroup", directory)(err.into()))?;
    let attach = || {
        let program = bpf::load_device_program(&program(&rules))?;
        bpf::attach_device_program(cgroup.as_fd(), program.as_fd())
    };
    match attach() {
        Ok(()) => Ok(true),
        Err(err) if is_missing(&err) => {
            tracing::warn!(
                cgroup = %directory.display(),
                error = &err as &dyn std::error::Error,
                "this kernel filters no devices: containers cannot make device nodes"
            );
            Ok(false)
        }
        Err(err) => Err(io_error("filter the devices of cgroup", directory)(err)),
    }
}

/// The kernel was built without it, or this process may not.
fn is_missing(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EINVAL))
}

/// A rule such as `c 1:3 rwm`; `None` in a field is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    kind: u32,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

fn parse(text: &str) -> Option<Rule> {
    let mut words = text.split(' ');
    let (kind, device, access) = (words.next()?, words.next()?, words.next()?);
    let kind = match kind {
        "b" => BLOCK,
        "c" => CHARACTER,
        _ => return None,
    };
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let (major, minor) = device.split_once(':')?;
    let bit = |letter| match letter {
        'm' => Some(MAKE),
        'r' => Some(READ),
        'w' => Some(WRITE),
        _ => None,
    };
    let access = access.chars().map(bit).try_fold(0, |all, bit| Some(all | bit?))?;
    let rule = Rule { kind, major: number(major)?, minor: number(minor)?, access };
    words.next().is_none().then_some(rule)
}

/// Operations, as `code` of `struct bpf_insn`.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb7;
const JUMP_UNLESS: u8 = 0x55;
const EXIT: u8 = 0x95;

/// What a register holds: the answer, the context (and then scratch), and the access.
const ANSWER: u8 = 0;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(code: u8, to: u8, from: u8, offset: i16, value: u32) -> u64 {
    u64::from(code) | u64::from(to | from << 4) << 8 | u64::from(offset.cast_unsigned()) << 16 | u64::from(value) << 32
}

/// The whole program.
fn program(rules: &[Rule]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, SCRATCH, 0, 0),
        instruction(COPY, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, SCRATCH, 4, 0),
        instruction(LOAD_WORD, MINOR, SCRATCH, 8, 0),
    ];
    for rule in rules {
        program.extend(block(rule));
    }
    program.extend([instruction(SET, ANSWER, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}

/// Allows what fits the rule; goes on behind itself with the rest.
fn block(rule: &Rule) -> Vec<u64> {
    // What is asked beyond the rule's access must be nothing.
    let beyond = (MAKE | READ | WRITE) & !rule.access;
    let mut tests = vec![(KIND, rule.kind), (SCRATCH, 0)];
    tests.extend(rule.major.map(|major| (MAJOR, major)));
    tests.extend(rule.minor.map(|minor| (MINOR, minor)));
    let mut block = vec![instruction(COPY, SCRATCH, ACCESS, 0, 0), instruction(AND, SCRATCH, 0, 0, beyond)];
    let length = tests.len();
    for (index, (register, value)) in tests.into_iter().enumerate() {
        // Over the tests that are left and the two instructions that allow: a rule has four tests at most.
        let over = i16::try_from(length - index - 1 + 2).unwrap_or(i16::MAX);
        block.push(instruction(JUMP_UNLESS, register, 0, over, value));
    }
    block.extend([instruction(SET, ANSWER, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(program: &[u64], context: [u32; 3]) -> bool {
        let (mut registers, mut at) = ([0_u32; 6], 0);
        loop {
            let word = program[at];
            let [code, pair, ..] = word.to_le_bytes();
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let (offset, value) = ((word >> 16) as u16 as i16, (word >> 32) as u32);
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[offset as usize / 4],
                COPY => registers[to] = registers[from],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                SET => registers[to] = value,
                JUMP_UNLESS if registers[to] != value => at += offset as usize,
                JUMP_UNLESS => {}
                EXIT => return registers[0] == 1,
                other => panic!("operation {other:#x}"),
            }
        }
    }

    fn rules() -> Vec<Rule> {
        ["c *:* m", "b *:* m", "c 1:3 rwm", "c 136:* rw", "b 7:0 r"].iter().map(|rule| parse(rule).unwrap()).collect()
    }

    #[test]
    fn the_program_says_what_devices_allow_would() {
        let program = program(&rules());
        let check = |kind, access, major, minor, expected: bool| {
            assert_eq!(run(&program, [access << 16 | kind, major, minor]), expected, "{kind} {access} {major}:{minor}");
        };
        check(CHARACTER, READ | WRITE, 1, 3, true);
        check(CHARACTER, READ, 1, 5, false);
        check(CHARACTER, MAKE, 200, 7, true);
        check(CHARACTER, READ | WRITE, 136, 9, true);
        check(CHARACTER, MAKE | WRITE, 136, 9, false);
        check(BLOCK, READ, 7, 0, true);
        check(BLOCK, WRITE, 7, 0, false);
        check(BLOCK, READ | WRITE, 8, 0, false);
        check(BLOCK, READ, 1, 3, false);
        check(BLOCK, MAKE, 8, 0, true);
        assert!(!run(&super::program(&[]), [READ << 16 | CHARACTER, 1, 3]));
    }

    #[test]
    fn rules_that_are_none_are_refused() {
        for text in ["", "c", "c 1:3", "a *:* rwm", "c 1 rwm", "c x:1 r", "c 1:3 rwx", "c 1:3 rwm more"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_kernel_takes_the_program_and_obeys_it() {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let Some(mount) = super::super::v2::Mount::parse(&mounts).filter(|_| rustix::process::geteuid().is_root())
        else {
            eprintln!("SKIP: this test needs root and a mounted cgroup2");
            return;
        };
        let directory = mount.directory(&format!("coracle-test-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let attached = restrict(&directory, &["c 1:3 rwm".to_owned()]);
        let script = "echo 0 > $0/cgroup.procs && : < /dev/null && echo null; : < /dev/zero && echo zero; true";
        let output =
            std::process::Command::new("sh").args(["-c", script]).arg(&directory).output().expect("a shell that runs");
        std::fs::remove_dir(&directory).unwrap();
        if !attached.unwrap() {
            eprintln!("SKIP: this kernel attaches no device programs");
            return;
        }
        let said = String::from_utf8(output.stdout).unwrap();
        faults::Attack::new("runtime: devices beyond the allowed ones, behind cgroup v2's filter")
            .tried(1, u64::from(said != "null\n"))
            .record();
    }
}
