//! What users and the platform did.

use store::activity::ActivityRow;
use store::environments::Environment;

use crate::app::{App, AppError, PageRequest};
use crate::authz::{Permit, ReadActivity};

/// What was done in an environment, newest first.
pub(crate) async fn list(
    app: &App,
    permit: Permit<ReadActivity, Environment>,
    page: PageRequest,
) -> Result<Vec<ActivityRow>, AppError> {
    Ok(app.store.activity(permit.thing().id, page.after, page.limit).await?)
}
