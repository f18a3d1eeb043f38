//! From rules to classic BPF: guard of the architecture, rules with conditions in their order, then ranges.

use std::collections::BTreeMap;

use libc::sock_filter;

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    /// Ask the listener.
    Notify,
    Log,
    Errno(u16),
    Trap,
    KillThread,
    KillProcess,
}

/// A comparison of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Equal after masking with the condition's mask.
    MaskedEqual {
        mask: u64,
    },
}

/// What must hold for an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) operator: Operator,
    pub(super) value: u64,
}

/// An action for a call whose arguments meet all conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) call: u32,
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// Rules, and what happens to calls that none of them matches. The first rule that matches wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) rules: Vec<Rule>,
    pub(super) otherwise: Action,
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// Calls of the x32 interface on `x86_64` have this bit.
const X32_BIT: u32 = 0x4000_0000;
/// The kernel takes no longer program.
const MAX_INSTRUCTIONS: usize = 4096;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Compiles a filter, packed as [`unpack`] takes it. Calls of another architecture end the process.
pub(super) fn compile(filter: &Filter) -> Result<Vec<u64>, String> {
    compile_behind(guard(Action::KillProcess, Action::Errno(libc::ENOSYS as u16)), filter)
}

/// The same, with an action for calls of another architecture.
pub(super) fn compile_with(filter: &Filter, foreign: Action) -> Result<Vec<u64>, String> {
    compile_behind(guard(foreign, foreign), filter)
}

fn compile_behind(mut program: Vec<sock_filter>, filter: &Filter) -> Result<Vec<u64>, String> {
    let mut plain: BTreeMap<u32, Action> = BTreeMap::new();
    let mut conditional: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &filter.rules {
        if plain.contains_key(&rule.call) {
            continue;
        }
        if rule.conditions.is_empty() {
            plain.insert(rule.call, rule.action);
        } else {
            conditional.entry(rule.call).or_default().push(rule);
        }
    }
    for (call, rules) in conditional {
        let after = plain.remove(&call).unwrap_or(filter.otherwise);
        append_conditional(&mut program, call, &rules, after)?;
    }
    append_ranges(&mut program, &plain);
    program.push(give(filter.otherwise));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(format!("the filter has {} instructions, more than {MAX_INSTRUCTIONS}", program.len()));
    }
    Ok(program.into_iter().map(pack).collect())
}

/// Sets aside calls of another architecture, whose numbers mean something else, and those of x32.
fn guard(foreign: Action, x32: Action) -> Vec<sock_filter> {
    let mut program =
        vec![statement(LOAD, ARCH), jump(EQUAL, ARCHITECTURE, 1, 0), give(foreign), statement(LOAD, NUMBER)];
    if cfg!(target_arch = "x86_64") {
        program.extend([jump(NOT_LESS, X32_BIT, 0, 1), give(x32)]);
    }
    program
}

/// Runs of neighbouring calls with one action, three instructions each.
fn append_ranges(program: &mut Vec<sock_filter>, calls: &BTreeMap<u32, Action>) {
    let mut ranges: Vec<(u32, u32, Action)> = Vec::new();
    for (&call, &action) in calls {
        match ranges.last_mut() {
            Some((_, last, known)) if *known == action && *last + 1 == call => *last = call,
            _ => ranges.push((call, call, action)),
        }
    }
    for (first, last, action) in ranges {
        if first == last {
            program.extend([jump(EQUAL, first, 0, 1), give(action)]);
        } else {
            program.extend([jump(NOT_LESS, first, 0, 2), jump(GREATER, last, 1, 0), give(action)]);
        }
    }
}

/// Tries each rule of one call; the accumulator holds the number before and after.
fn append_conditional(
    program: &mut Vec<sock_filter>,
    call: u32,
    rules: &[&Rule],
    otherwise: Action,
) -> Result<(), String> {
    let mut body = Vec::new();
    for rule in rules {
        let mut tests: Vec<Vec<sock_filter>> = rule.conditions.iter().map(|one| test(*one)).collect();
        // A failed test jumps behind the rule's return.
        let mut rest = 1;
        for test in tests.iter_mut().rev() {
            let length = test.len();
            for (index, instruction) in test.iter_mut().enumerate() {
                resolve(instruction, length - index - 1, rest + length - index - 1)?;
            }
            rest += length;
        }
        body.extend(tests.into_iter().flatten());
        body.push(give(rule.action));
    }
    body.push(give(otherwise));
    let length = u32::try_from(body.len()).map_err(|_| "too many rules for one call".to_owned())?;
    program.push(jump(EQUAL, call, 1, 0));
    program.push(statement(JUMP, length));
    program.extend(body);
    Ok(())
}

/// Placeholders for jumps out of a test: to its end (met) and behind the rule (not met).
const MET: u8 = 254;
const FAIL: u8 = 255;

fn resolve(instruction: &mut sock_filter, met: usize, fail: usize) -> Result<(), String> {
    if instruction.code & 0x07 != 0x05 {
        return Ok(());
    }
    for target in [&mut instruction.jt, &mut instruction.jf] {
        let distance = match *target {
            MET => met,
            FAIL => fail,
            _ => continue,
        };
        *target = u8::try_from(distance).ok().filter(|near| *near < MET).ok_or("too many conditions in one rule")?;
    }
    Ok(())
}

/// Tests one 64-bit argument in halves.
fn test(condition: Condition) -> Vec<sock_filter> {
    let low = ARGUMENTS + 8 * u32::from(condition.argument);
    let high = low + 4;
    let (value_high, value_low) = halves(condition.value);
    let load = |offset| statement(LOAD, offset);
    match condition.operator {
        Operator::Equal => {
            vec![load(high), jump(EQUAL, value_high, 0, FAIL), load(low), jump(EQUAL, value_low, MET, FAIL)]
        }
        Operator::NotEqual => {
            vec![load(high), jump(EQUAL, value_high, 0, MET), load(low), jump(EQUAL, value_low, FAIL, MET)]
        }
        Operator::MaskedEqual { mask } => {
            let (mask_high, mask_low) = halves(mask);
            vec![
                load(high),
                statement(AND, mask_high),
                jump(EQUAL, value_high, 0, FAIL),
                load(low),
                statement(AND, mask_low),
                jump(EQUAL, value_low, MET, FAIL),
            ]
        }
        Operator::Greater => ordered(high, low, condition.value, GREATER, (MET, FAIL)),
        Operator::GreaterOrEqual => ordered(high, low, condition.value, NOT_LESS, (MET, FAIL)),
        Operator::LessOrEqual => ordered(high, low, condition.value, GREATER, (FAIL, MET)),
        Operator::Less => ordered(high, low, condition.value, NOT_LESS, (FAIL, MET)),
    }
}

fn ordered(high: u32, low: u32, value: u64, compare: u16, (yes, no): (u8, u8)) -> Vec<sock_filter> {
    let (value_high, value_low) = halves(value);
    vec![
        statement(LOAD, high),
        jump(GREATER, value_high, yes, 0),
        jump(EQUAL, value_high, 0, no),
        statement(LOAD, low),
        jump(compare, value_low, yes, no),
    ]
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn give(action: Action) -> sock_filter {
    let value = match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
    };
    statement(RETURN, value)
}

fn pack(instruction: sock_filter) -> u64 {
    u64::from(instruction.code) << 48
        | u64::from(instruction.jt) << 40
        | u64::from(instruction.jf) << 32
        | u64::from(instruction.k)
}

/// The inverse of packing.
pub(super) fn unpack(packed: u64) -> sock_filter {
    sock_filter { code: (packed >> 48) as u16, jt: (packed >> 40) as u8, jf: (packed >> 32) as u8, k: packed as u32 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    pub(in super::super) fn run(program: &[u64], call: u32, arguments: [u64; 6]) -> u32 {
        let (mut at, mut a) = (0, 0u32);
        loop {
            let one = unpack(program[at]);
            at += 1;
            let branch = |holds: bool| usize::from(if holds { one.jt } else { one.jf });
            match one.code {
                LOAD if one.k == NUMBER => a = call,
                LOAD if one.k == ARCH => a = ARCHITECTURE,
                LOAD => {
                    let (index, high) = ((one.k - ARGUMENTS) / 8, (one.k - ARGUMENTS) % 8 == 4);
                    let (h, l) = halves(arguments[index as usize]);
                    a = if high { h } else { l };
                }
                AND => a &= one.k,
                JUMP => at += one.k as usize,
                EQUAL => at += branch(a == one.k),
                GREATER => at += branch(a > one.k),
                NOT_LESS => at += branch(a >= one.k),
                RETURN => return one.k,
                code => panic!("instruction {code}"),
            }
        }
    }

    fn allow(call: u32) -> Rule {
        Rule { call, conditions: Vec::new(), action: Action::Allow }
    }

    const DENIED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

    #[test]
    fn only_listed_calls_pass_at_the_ends_of_ranges_too() {
        let rules = vec![allow(3), allow(4), allow(5), allow(9)];
        let program = compile(&Filter { rules, otherwise: Action::Errno(libc::EPERM as u16) }).unwrap();
        let passed: Vec<u32> = (0..12).filter(|&call| run(&program, call, [0; 6]) != DENIED).collect();
        assert_eq!(passed, [3, 4, 5, 9]);
    }

    #[test]
    fn conditions_see_all_64_bits_and_leave_other_calls_alone() {
        let check = |operator, value, expected: [bool; 3]| {
            let condition = Condition { argument: 1, operator, value };
            let rules = vec![Rule { call: 7, conditions: vec![condition], action: Action::Allow }, allow(8)];
            let program = compile(&Filter { rules, otherwise: Action::Errno(libc::EPERM as u16) }).unwrap();
            let passes = |argument| run(&program, 7, [0, argument, 0, 0, 0, 0]) != DENIED;
            assert_eq!([value - 1, value, value + 1].map(passes), expected, "{operator:?}");
            assert_ne!(run(&program, 8, [0; 6]), DENIED);
        };
        let value = (1 << 40) + 5;
        check(Operator::Equal, value, [false, true, false]);
        check(Operator::NotEqual, value, [true, false, true]);
        check(Operator::Less, value, [true, false, false]);
        check(Operator::LessOrEqual, value, [true, true, false]);
        check(Operator::Greater, value, [false, false, true]);
        check(Operator::GreaterOrEqual, value, [false, true, true]);
        check(Operator::MaskedEqual { mask: u64::MAX }, value, [false, true, false]);
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold_and_any_rule_may() {
        let equal = |argument, value| Condition { argument, operator: Operator::Equal, value };
        let rules = vec![
            Rule { call: 7, conditions: vec![equal(0, 1), equal(1, 2)], action: Action::Allow },
            Rule { call: 7, conditions: vec![equal(0, 9)], action: Action::Allow },
        ];
        let program = compile(&Filter { rules, otherwise: Action::Errno(libc::EPERM as u16) }).unwrap();
        let passes = |a, b| run(&program, 7, [a, b, 0, 0, 0, 0]) != DENIED;
        assert_eq!([passes(1, 2), passes(1, 3), passes(9, 9), passes(2, 2)], [true, false, true, false]);
    }
}
