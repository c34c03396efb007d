//! A report as a body: JSON, or form fields for shells.

use axum::extract::{FromRequest, Request};

use super::{
    App,
    extract::{BodyType, Json, body_type, read_body, valid},
    json,
    problem::{Problem, ProblemKind, kinds},
    refusals::Refuses,
    urlencoded::{Fields, FieldsError},
};
use crate::task::Report;

/// A report within its bounds.
#[derive(Debug)]
pub(super) struct ReportBody(pub(super) Report);

impl FromRequest<App> for ReportBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let body_type = body_type(request.headers()).ok_or_else(|| {
            Problem::new(&kinds::UNSUPPORTED_TYPE)
                .with_detail("Send JSON as application/json, or form fields as application/x-www-form-urlencoded.")
        })?;
        let body = read_body(request.into_body(), app.config.http.max_body_bytes).await?;
        let report = match body_type {
            BodyType::Json => json::read(&body)?,
            BodyType::Form => from_form(&body)?,
        };
        valid(report).map(Self)
    }
}

impl Refuses for ReportBody {
    fn kinds() -> Vec<&'static ProblemKind> {
        Json::<Report>::kinds()
    }
}

/// Reads `progress=40&message=half`. A `result` that is not JSON is a text.
fn from_form(body: &[u8]) -> Result<Report, Problem> {
    if body.trim_ascii_start().starts_with(b"{") {
        // curl sends `-d` as a form unless it is told otherwise.
        return Err(Problem::new(&kinds::UNSUPPORTED_TYPE)
            .with_detail("This looks like JSON: send it with content-type application/json (curl --json)."));
    }
    Fields::of_form(body, "result").and_then(Fields::read).map_err(form_problem)
}

fn form_problem(error: FieldsError) -> Problem {
    match error.name() {
        Some(name) => Problem::invalid(name, error.to_string()),
        None => Problem::new(&kinds::MALFORMED).with_detail(format!("The form {error}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Payload, ReportedStatus};

    #[test]
    fn reads_what_curl_sends() {
        let report = from_form(b"progress=40.5&message=half+way&current=7&status=processing&step=1").expect("a report");
        assert_eq!(report.progress, Some(40.5));
        assert_eq!(report.message.as_deref(), Some("half way"));
        assert_eq!((report.current, report.step), (Some(7), Some(1)));
        assert_eq!(report.status, Some(ReportedStatus::Processing));

        let result = |form: &str| from_form(form.as_bytes()).expect("a report").result;
        assert_eq!(
            result("status=completed&result=%7B%22rows%22%3A3%7D"),
            Payload::of(&serde_json::json!({ "rows": 3 }))
        );
        assert_eq!(result("status=completed&result=all+good"), Payload::of(&"all good".into()));
        let error = from_form(b"status=error&error=no+such+file").expect("a report").error;
        assert_eq!(error.and_then(|error| error.detail).as_deref(), Some("no such file"));
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        for (form, field) in [
            ("progress=NaN", "progress"),
            ("progress=inf", "progress"),
            ("progress=1e999", "progress"),
            ("progress=", "progress"),
            ("progress=101", "progress"),
            ("progress=-1", "progress"),
            ("stepProgress=x", "stepProgress"),
            ("current=-1", "current"),
            ("current=1.5", "current"),
            ("total=18446744073709551616", "total"),
            ("step=%31x", "step"),
            ("status=done", "status"),
            ("unit=a+b", "unit"),
            ("colour=red", "colour"),
            ("progress=1&progress=2", "progress"),
        ] {
            let problem = from_form(form.as_bytes()).and_then(valid).expect_err(form);
            assert_eq!(problem.kind(), &kinds::INVALID, "{form}");
            assert_eq!(problem.errors()[0].field, field, "{form}");
        }
        assert_eq!(from_form(b"message=%ff").expect_err("no UTF-8").kind(), &kinds::MALFORMED);
        assert_eq!(from_form(b" {\"progress\":40}").expect_err("JSON").kind(), &kinds::UNSUPPORTED_TYPE);
    }
}
