//! What operators do is written into the ledger, where one is kept: by which request, from where, to whom, and what.

use actix_web::HttpRequest;
use roost_proto::error::{Code, Problem};
use roost_server::request_id;
use serde_json::{Value, json};

use super::client;
use crate::app::Scheduler;
use crate::ledger::Action;

/// Notes what was done upon the request.
pub(super) fn note(
    scheduler: &Scheduler,
    request: &HttpRequest,
    action: &'static str,
    subject: impl ToString,
    detail: impl ToString,
) {
    let Some(ledger) = &scheduler.kept.ledger else { return };
    let address = client::address(request, scheduler);
    ledger.acted(Action {
        id: id(),
        actor: address.map(|address| address.to_string()).unwrap_or_default(),
        action,
        subject: subject.to_string(),
        detail: detail.to_string(),
        heard_ms: scheduler.clock.store_now_ms(),
    });
}

/// Notes what came of the request: with what `detail` makes of it, or, where it may have been done all the same, of nothing
/// and with the code that was answered. What was refused is no row.
pub(super) fn outcome<T>(
    (scheduler, request): (&Scheduler, &HttpRequest),
    action: &'static str,
    subject: impl ToString,
    outcome: &Result<T, Problem>,
    detail: impl FnOnce(Option<&T>) -> Value,
) {
    match outcome {
        Ok(done) => note(scheduler, request, action, subject, detail(Some(done))),
        Err(problem) if matches!(problem.code, Code::Unfinished | Code::StoreUnavailable) => {
            let mut detail = detail(None);
            detail["failed"] = json!(problem.code);
            note(scheduler, request, action, subject, detail);
        }
        Err(_) => {}
    }
}

/// The request's id, made unlike that of any other: callers choose theirs, and may choose one twice.
fn id() -> String {
    let unique = request_id::new();
    request_id::current().map_or_else(|| unique.to_string(), |request| format!("{request}/{unique}"))
}
