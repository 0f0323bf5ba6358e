use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Fake {
    reasons: Vec<String>,
}

impl NodeView for Fake {
    fn not_ready(&self) -> Vec<String> {
        self.reasons.clone()
    }
    fn warnings(&self) -> Vec<String> {
        vec!["one batch is damaged".into()]
    }
    fn scrub(&self) -> Option<serde_json::Value> {
        None
    }
    fn cluster(&self) -> BoxFuture<'_, ClusterView> {
        Box::pin(async { ClusterView { node_id: 7, state: "running".into(), ..Default::default() } })
    }
    fn metrics(&self) -> String {
        "rookery_up 1\n".into()
    }
    fn image(&self) -> Arc<MetadataImage> {
        MetadataImage::empty()
    }
    fn scene(&self) -> BoxFuture<'_, Scene> {
        let (node, image) = (NodeId(7), self.image());
        let scene =
            Scene { node, image, controller: None, has_majority: None, liveness: std::collections::BTreeMap::new() };
        Box::pin(async { scene })
    }
    fn group_scene(&self, _: String) -> BoxFuture<'_, GroupScene> {
        Box::pin(async { GroupScene { scene: self.scene().await, described: None } })
    }
}

impl NodeActions for Fake {
    fn scrub_now(&self) -> Result<bool, Problem> {
        Ok(true)
    }

    fn replace_voter(&self, request: ReplaceVoter) -> BoxFuture<'static, Result<bool, Problem>> {
        let known = request.node_id == 2;
        let unknown = Problem::new(StatusCode::NOT_FOUND, format!("node {} is no voter", request.node_id));
        Box::pin(async move { if known { Ok(true) } else { Err(unknown) } })
    }

    fn transfer_controller(&self) -> BoxFuture<'static, Result<i32, Problem>> {
        Box::pin(async { Ok(3) })
    }
}

async fn ask(reasons: &[&str], request: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fake = Arc::new(Fake { reasons: reasons.iter().map(|r| (*r).to_owned()).collect() });
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(listener, fake.clone(), fake, stop.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    stop.cancel();
    served.await.unwrap().unwrap();
    answer
}

fn get_of(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n")
}

fn post_of(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: n\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_node_that_is_not_ready_says_why() {
    let answer = ask(&["no controller is known"], &get_of("/health/ready")).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("no controller is known"), "{answer}");
    assert!(ask(&[], &get_of("/health/ready")).await.starts_with("HTTP/1.1 200"));
    assert!(ask(&["x"], &get_of("/health/live")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_with_a_problem_document() {
    const JSON: &str = "content-type: application/json\r\n";
    let path = "/admin/v1/quorum/replace";
    for (request, status, part) in [
        (get_of("/nothing"), 404, "no such resource"),
        (get_of(path), 405, "does not know this method"),
        (post_of(path, "", "{\"node_id\":2}"), 415, "application/json"),
        (post_of(path, "content-type: text/plain\r\n", "{\"node_id\":2}"), 415, "application/json"),
        (post_of(path, &format!("{JSON}origin: http://evil\r\n"), "{\"node_id\":2}"), 403, "Origin"),
        (post_of(path, JSON, "{\"node_id\":\"two\"}"), 422, "node_id"),
        (post_of(path, JSON, "{\"node\":2}"), 422, "node"),
        (post_of(path, JSON, "{"), 400, "EOF"),
        (post_of(path, JSON, "{\"node_id\":9}"), 404, "node 9 is no voter"),
        (get_of("/admin/v1/events?after=1&before=2"), 400, "exclude each other"),
        (get_of("/admin/v1/events?kind=leader_lost,nonsense"), 400, "broker_fenced"),
        (get_of("/admin/v1/events?limit=many"), 400, "invalid digit"),
        (get_of("/admin/v1/events?colour=red"), 400, "colour"),
        (get_of("/admin/v1/why/partitions/t/0"), 404, "there is no topic `t`"),
        (get_of("/admin/v1/why/partitions/t/x"), 400, "not `x`"),
        (get_of("/admin/v1/why/brokers/4"), 404, "broker 4 is not registered"),
        (get_of("/admin/v1/why/groups/a%2Fb"), 404, "there is no group `a/b`"),
    ] {
        let answer = ask(&[], &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}\n{answer}");
        assert!(answer.contains("application/problem+json") && answer.contains(part), "{request}\n{answer}");
    }
    let answer = ask(&[], &post_of(path, &format!("{JSON}origin: http://n\r\n"), "{\"node_id\":2}")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // A browser's form cannot ask for a change without a body either.
    let path = "/admin/v1/quorum/transfer";
    assert!(ask(&[], &post_of(path, "", "")).await.starts_with("HTTP/1.1 415"));
    let answer = ask(&[], &post_of(path, JSON, "{}")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"node_id\":3"), "{answer}");
}

#[tokio::test]
async fn the_cluster_and_the_metrics_are_served() {
    assert!(ask(&[], &get_of("/admin/v1/cluster")).await.contains("\"node_id\":7"));
    assert!(ask(&[], &get_of("/metrics")).await.contains("rookery_up 1"));
}

#[tokio::test]
async fn a_scrub_is_asked_for_and_warnings_do_not_make_a_node_unready() {
    let ready = ask(&[], &get_of("/health/ready")).await;
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("one batch is damaged"), "{ready}");
    let json = "content-type: application/json\r\n";
    assert!(ask(&[], &post_of("/admin/v1/scrub", json, "")).await.contains("begun"));
    assert!(ask(&[], &post_of("/admin/v1/scrub", "", "")).await.starts_with("HTTP/1.1 415"));
    assert!(ask(&[], &get_of("/admin/v1/scrub")).await.starts_with("HTTP/1.1 404"));
}
