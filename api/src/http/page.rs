//! Pages of lists.
//!
//! A cursor is the id of the last thing seen, so a page neither repeats nor skips when things are
//! created or deleted meanwhile. To callers it is opaque.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::{App, Handle, Id, User};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app::PageRequest;
use crate::app::sessions::SessionState;
use crate::http::problem::Problem;

const DEFAULT_LIMIT: u16 = 50;
const HIGHEST_LIMIT: u16 = 200;

/// A page.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// What is on it.
    pub(crate) items: Vec<T>,
    /// Where the next page begins; null on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many at most: 1 to 200; 50, if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which page of a list, and of which handle.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HandleQuery {
    /// How many at most: 1 to 200; 50, if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only what has this handle.
    #[param(value_type = Option<String>)]
    pub(crate) handle: Option<Handle>,
}

/// Which page of a list of sessions, and of which of them.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionQuery {
    /// How many at most: 1 to 200; 50, if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only those in this state.
    pub(crate) state: Option<SessionState>,
    /// Only those of this user.
    #[param(value_type = Option<Uuid>)]
    pub(crate) user: Option<Id<User>>,
    /// Only those of this app.
    #[param(value_type = Option<Uuid>)]
    pub(crate) app: Option<Id<App>>,
}

macro_rules! pages {
    ($($query:ty),+) => {
        $(impl $query {
            /// Which page is meant.
            pub(crate) fn parse(&self) -> Result<PageRequest, Problem> {
                parse(self.limit, self.cursor.as_deref())
            }
        })+
    };
}

pages!(PageQuery, HandleQuery, SessionQuery);

/// Reads where a page begins and how long it may be; one more is asked for, to see whether more
/// follows.
fn parse(limit: Option<u16>, cursor: Option<&str>) -> Result<PageRequest, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=HIGHEST_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!("`limit` must be 1 to {HIGHEST_LIMIT}.")));
    }
    let after = cursor.map(decode).transpose()?;
    Ok(PageRequest { after, limit: i64::from(limit) + 1 })
}

/// Makes a page of what was found.
pub(crate) fn page<T, U>(
    mut found: Vec<T>,
    request: PageRequest,
    id: impl Fn(&T) -> Uuid,
    render: impl Fn(T) -> U,
) -> Page<U> {
    let limit = usize::try_from(request.limit - 1).unwrap_or_default();
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| encode(id(last)));
    Page { items: found.into_iter().map(render).collect(), next_cursor }
}

fn encode(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

fn decode(cursor: &str) -> Result<Uuid, Problem> {
    URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok()).ok_or_else(
        || Problem::bad_request("`cursor` must be a `next_cursor` of an earlier answer."),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk(ids: &[Uuid], limit: u16) -> Vec<Uuid> {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let request = parse(Some(limit), cursor.as_deref()).expect("a good cursor");
            let found = ids
                .iter()
                .copied()
                .filter(|id| request.after.is_none_or(|after| *id > after))
                .take(usize::try_from(request.limit).expect("small"))
                .collect();
            let page = page(found, request, |id| *id, |id| id);
            assert!(page.items.len() <= usize::from(limit));
            seen.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return seen;
            }
        }
    }

    proptest! {
        #[test]
        fn pages_together_are_the_list(count in 0_usize..30, limit in 1_u16..12) {
            let mut ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
            ids.sort_unstable();
            prop_assert_eq!(walk(&ids, limit), ids);
        }

        #[test]
        fn any_text_is_a_cursor_or_refused(text in ".{0,40}") {
            if let Ok(id) = decode(&text) {
                prop_assert_eq!(encode(id), text);
            }
        }
    }

    #[test]
    fn limit_is_1_to_200() {
        for bad in [0, 201] {
            assert!(parse(Some(bad), None).is_err());
        }
        assert_eq!(parse(None, None).map(|request| request.limit).ok(), Some(51));
    }
}
