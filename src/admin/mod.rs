//! The HTTP admin API.
//!
//! In: HTTP requests of operators and probes. Out: JSON; errors as problem documents (RFC 9457). This room renders what
//! other rooms know ([`NodeView`]) and passes on what an operator asks for ([`NodeActions`]); it decides nothing.
//!
//! | route | what |
//! |---|---|
//! | `GET /health/live` | 200 while the process answers |
//! | `GET /health/ready` | 200 when clients can be served, else 503 with each reason; warnings beside it |
//! | `GET /metrics` | Prometheus text |
//! | `GET /admin/v1/cluster` | nodes, controller, term, gossip, partitions in trouble |
//! | `GET /admin/v1/events` | what happened lately, and why ([`events`]); `after`, `before`, `limit`, `broker`, `topic`, `kind` |
//! | `GET /admin/v1/why/partitions/{topic}/{partition}`, `…/brokers/{id}`, `…/groups/{id}` | what is wrong with it, and how it came to that ([`why`]) |
//! | `GET /admin/v1/scrub` | how far the search for damaged records is on this node |
//! | `POST /admin/v1/scrub` | begin it now |
//! | `POST /admin/v1/quorum/replace` | take a wiped voter back under its new identity |
//! | `POST /admin/v1/quorum/transfer` | make another voter the active controller |
//!
//! Requests that change anything need `content-type: application/json` (a browser form cannot send that) and an
//! `Origin`, if there is one, that equals `Host`.

mod cluster;
pub mod events;
mod guard;
mod problem;
mod time;
pub mod why;

pub use cluster::{
    BrokerSummary, ClusterView, ControllerSummary, GossipSummary, PartitionSummary, PartitionTrouble, QuorumSummary,
    ReplaceVoter, TopicTrouble, VoterSummary,
};
pub use problem::Problem;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use events::{EventPage, EventQuery};
use futures_util::future::BoxFuture;
use rookery_raft::ids::NodeId;
use rookery_raft::image::MetadataImage;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use why::{GroupScene, Scene, Why};

/// What the admin API shows of a node.
pub trait NodeView: Send + Sync + 'static {
    /// Every reason why clients cannot be served yet, in words; none when ready.
    fn not_ready(&self) -> Vec<String>;
    /// What an operator should look at, in words, though clients are served.
    fn warnings(&self) -> Vec<String>;
    /// How far the scrub of the data directory is, as JSON; nothing where there is none.
    fn scrub(&self) -> Option<serde_json::Value>;
    /// The cluster as this node sees it; voters are asked how they are.
    fn cluster(&self) -> BoxFuture<'_, ClusterView>;
    /// Prometheus text.
    fn metrics(&self) -> String;
    /// The metadata this node has applied.
    fn image(&self) -> Arc<MetadataImage>;
    /// What it knows when it is asked why; voters are asked how they are.
    fn scene(&self) -> BoxFuture<'_, Scene>;
    /// The same, and what it knows of a group.
    fn group_scene(&self, id: String) -> BoxFuture<'_, GroupScene>;
}

/// What an operator can ask a node for.
pub trait NodeActions: Send + Sync + 'static {
    /// Replace a voter's wiped identity by its new one; any node forwards to the controller. Whether that was needed.
    fn replace_voter(&self, request: ReplaceVoter) -> BoxFuture<'static, Result<bool, Problem>>;
    /// Make another voter the active controller; any node forwards to the one there is. Which node it is then.
    fn transfer_controller(&self) -> BoxFuture<'static, Result<i32, Problem>>;
    /// Read all that is stored here and look for damage; whether that was not under way.
    fn scrub_now(&self) -> Result<bool, Problem>;
}

#[derive(Clone)]
struct Api {
    view: Arc<dyn NodeView>,
    actions: Arc<dyn NodeActions>,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Health {
    fn of(status: &'static str) -> Self {
        Self { status, reasons: Vec::new(), warnings: Vec::new() }
    }
}

const REQUEST_BYTES_MAX: usize = 1 << 20;
/// A probe that waits longer has decided already.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Serve the API on a bound listener until told to stop.
pub async fn serve(
    listener: TcpListener,
    view: Arc<dyn NodeView>,
    actions: Arc<dyn NodeActions>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = router(view, actions).into_make_service_with_connect_info::<SocketAddr>();
    let stopped = stop.clone();
    let served = axum::serve(listener, app).with_graceful_shutdown(async move { stopped.cancelled().await });
    let given_up = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        result = served.into_future() => result,
        () = given_up => Ok(()),
    }
}

/// The routes.
pub fn router(view: Arc<dyn NodeView>, actions: Arc<dyn NodeActions>) -> Router {
    Router::new()
        .route("/health/live", get(|| async { Json(Health::of("live")) }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/admin/v1/cluster", get(|State(api): State<Api>| async move { Json(api.view.cluster().await) }))
        .route("/admin/v1/events", get(event_page))
        .route("/admin/v1/why/partitions/{topic}/{partition}", get(why_partition))
        .route("/admin/v1/why/brokers/{id}", get(why_broker))
        .route("/admin/v1/why/groups/{id}", get(why_group))
        .route("/admin/v1/quorum/replace", post(replace_voter))
        .route("/admin/v1/quorum/transfer", post(transfer_controller))
        .route("/admin/v1/scrub", get(scrub).post(scrub_now))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no such resource") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the resource does not know this method")
        })
        .layer(middleware::from_fn(guard::check_change))
        .layer(axum::extract::DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(Api { view, actions })
}

async fn ready(State(api): State<Api>) -> Response {
    let (reasons, warnings) = (api.view.not_ready(), api.view.warnings());
    if reasons.is_empty() {
        Json(Health { status: "ready", reasons, warnings }).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "not ready", reasons, warnings })).into_response()
    }
}

async fn metrics(State(api): State<Api>) -> Response {
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], api.view.metrics()).into_response()
}

async fn event_page(
    State(api): State<Api>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Json<EventPage>, Problem> {
    let Query(query) = query.map_err(|e| Problem::new(e.status(), e.body_text()))?;
    events::page(&api.view.image().events, &query).map(Json)
}

async fn why_partition(
    State(api): State<Api>,
    Path((topic, partition)): Path<(String, String)>,
) -> Result<Json<Why>, Problem> {
    let partition = number("partition", &partition)?;
    why::partition(&api.view.scene().await, &topic, partition).map(Json)
}

async fn why_broker(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Why>, Problem> {
    let id = NodeId(number("broker", &id)?);
    why::broker(&api.view.scene().await, id).map(Json)
}

async fn why_group(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Why>, Problem> {
    why::group(&api.view.group_scene(id.clone()).await, &id).map(Json)
}

fn number(what: &str, text: &str) -> Result<i32, Problem> {
    text.parse().map_err(|_| Problem::new(StatusCode::BAD_REQUEST, format!("a {what} is a number, not `{text}`")))
}

async fn replace_voter(
    State(api): State<Api>,
    body: Result<Json<ReplaceVoter>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Health>, Problem> {
    let Json(request) = body.map_err(|e| Problem::new(e.status(), e.body_text()))?;
    let status = if api.actions.replace_voter(request).await? { "replaced" } else { "nothing to do" };
    Ok(Json(Health::of(status)))
}

async fn transfer_controller(State(api): State<Api>) -> Result<Json<ControllerSummary>, Problem> {
    Ok(Json(ControllerSummary { node_id: api.actions.transfer_controller().await? }))
}

async fn scrub(State(api): State<Api>) -> Result<Json<serde_json::Value>, Problem> {
    api.view
        .scrub()
        .map(Json)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "this node has no partition logs (yet)"))
}

async fn scrub_now(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    let begins = api.actions.scrub_now()?;
    Ok(Json(Health::of(if begins { "begun" } else { "under way" })))
}

#[cfg(test)]
mod scenario;
#[cfg(test)]
mod tests;
