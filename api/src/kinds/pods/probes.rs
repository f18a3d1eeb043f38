//! Rules for probes and lifecycle handlers.

use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{naming, numbers};

/// A liveness or startup probe: one success is enough for these, by definition.
pub(crate) fn liveness(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    probe(at, errors);
    let threshold = at.field("successThreshold");
    if threshold.number() != 1 {
        errors.invalid_value(&threshold, threshold.number(), "must be 1");
    }
}

/// A readiness probe, which kills nothing and so has no grace period.
pub(crate) fn readiness(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    probe(at, errors);
    let grace = at.field("terminationGracePeriodSeconds");
    if grace.is_set() {
        errors.invalid(&grace, "must not be set for readinessProbes");
    }
}

fn probe(at: &Node<'_, '_>, errors: &mut Errors) {
    handler(at, errors);
    for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        errors.non_negative(&at.field(key));
    }
    let grace = at.field("terminationGracePeriodSeconds");
    if grace.integer().is_some_and(|seconds| seconds <= 0) {
        errors.invalid(&grace, "must be greater than 0");
    }
}

/// `postStart` and `preStop`; neither sleeps longer than the `grace` that containers get to end.
pub(crate) fn lifecycle(at: &Node<'_, '_>, grace: Option<i64>, errors: &mut Errors) {
    for key in ["postStart", "preStop"] {
        let hook = at.field(key);
        if hook.is_set() {
            handler(&hook, errors);
        }
        let sleep = hook.field("sleep");
        let seconds = sleep.field("seconds").number();
        if let Some(grace) = grace.filter(|grace| sleep.is_set() && !(0..=*grace).contains(&seconds)) {
            let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            errors.invalid_value(&sleep, seconds, &why);
        }
    }
    let signal = at.field("stopSignal");
    if signal.is_set() && !signal.text().starts_with("SIG") {
        errors.not_supported(&signal, &[]);
    }
}

fn handler(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut found = false;
    for (key, rule) in [
        ("exec", exec as fn(&Node<'_, '_>, &mut Errors)),
        ("httpGet", http_get),
        ("tcpSocket", tcp_socket),
        ("grpc", grpc),
        // How long it is follows from the pod.
        ("sleep", |_, _| {}),
    ] {
        let action = at.field(key);
        if action.is_unset() {
            continue;
        }
        if found {
            errors.forbidden(&action, "may not specify more than 1 handler type");
        } else {
            rule(&action, errors);
        }
        found = true;
    }
    if !found {
        errors.required(at, "must specify a handler type");
    }
}

fn exec(at: &Node<'_, '_>, errors: &mut Errors) {
    let command = at.field("command");
    if command.is_empty() {
        errors.required(&command, "");
    }
}

fn http_get(at: &Node<'_, '_>, errors: &mut Errors) {
    errors.require_text(&at.field("path"));
    numbers::port_number_or_name(&at.field("port"), errors);
    errors.one_of(&at.field("scheme"), &["HTTP", "HTTPS"]);
    // Upstream names the list.
    let headers = at.field("httpHeaders");
    for header in headers.items() {
        let name = header.field("name").text();
        for why in naming::http_header_name(name) {
            errors.invalid_value(&headers, name, &why);
        }
    }
}

fn tcp_socket(at: &Node<'_, '_>, errors: &mut Errors) {
    numbers::port_number_or_name(&at.field("port"), errors);
}

fn grpc(at: &Node<'_, '_>, errors: &mut Errors) {
    numbers::port_number(&at.field("port"), errors);
}
