//! The problems of each route, for its description: each extractor, layer and step of a request names the kinds of its
//! problems beside the code that answers them, and a route names its extractors and steps.

use std::{collections::BTreeMap, marker::PhantomData};

use utoipa::{
    IntoResponses,
    openapi::{Content, Ref, RefOr, Response, ResponseBuilder},
};

use super::problem::{CONTENT_TYPE, ProblemKind};

/// A part of a request that may be refused.
pub(super) trait Refuses {
    /// The kinds of its problems.
    fn kinds() -> Vec<&'static ProblemKind>;
}

/// Names a step of a request that is no extractor, and what it refuses: `refusals!(Reports: TASK_FINAL, TASK_LEASED)`.
macro_rules! refusals {
    ($(#[$doc:meta])* $name:ident: $($kind:expr),+) => {
        $(#[$doc])*
        pub(in $crate::http) enum $name {}

        $crate::http::refusals::refuses!($name: $($kind),+);
    };
}

/// The kinds of problems of an extractor: `refuses!(User: INVALID, MALFORMED)`.
macro_rules! refuses {
    ($part:ty $(where $parameter:ident)?: $($kind:expr),+) => {
        impl$(<$parameter>)? $crate::http::refusals::Refuses for $part {
            fn kinds() -> Vec<&'static $crate::http::problem::ProblemKind> {
                vec![$(&$kind),+]
            }
        }
    };
}

pub(super) use {refusals, refuses};

macro_rules! tuples {
    ($($($part:ident)+;)+) => {
        $(impl<$($part: Refuses),+> Refuses for ($($part,)+) {
            fn kinds() -> Vec<&'static ProblemKind> {
                [$($part::kinds()),+].concat()
            }
        })+
    };
}

tuples! { A B; A B C; A B C D; A B C D E; }

/// The responses of all that refuses in a route: `responses(Refusals<(TaskId, ReportBody)>)`.
pub(super) struct Refusals<T>(PhantomData<T>);

impl<T: Refuses> IntoResponses for Refusals<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = BTreeMap::new();
        add(&mut responses, &T::kinds());
        responses
    }
}

/// Adds these kinds to the responses of a route: one response a status, which names each code.
pub(super) fn add(responses: &mut BTreeMap<String, RefOr<Response>>, kinds: &[&ProblemKind]) {
    for kind in kinds {
        let line = format!("- `{}`: {}", kind.code, kind.title);
        let response = responses.entry(kind.status.as_str().to_owned()).or_insert_with(|| {
            let content = Content::new(Some(Ref::from_schema_name("Problem")));
            RefOr::T(ResponseBuilder::new().content(CONTENT_TYPE, content).build())
        });
        match response {
            RefOr::T(response) if response.description.lines().any(|known| known == line) => {}
            RefOr::T(response) if response.description.is_empty() => response.description = line,
            RefOr::T(response) => response.description = format!("{}\n{line}", response.description),
            RefOr::Ref(_) => {}
        }
    }
}
