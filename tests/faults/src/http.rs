//! `GET` and `POST` over HTTP/1.0: all that is needed of the admin API.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Status and body; in vain after so long: a node that hangs must not hold up the test.
pub fn get(address: SocketAddr, path: &str, patience: Duration) -> Result<(u16, String)> {
    ask(address, &format!("GET {path} HTTP/1.0\r\n"), "", patience)
}

/// The same, asking for a change.
pub fn post(address: SocketAddr, path: &str, json: &str, patience: Duration) -> Result<(u16, String)> {
    let length = json.len();
    let head = format!("POST {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
    ask(address, &head, json, patience)
}

fn ask(address: SocketAddr, head: &str, body: &str, patience: Duration) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("{head}host: {address}\r\nconnection: close\r\n\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no HTTP status")?;
    Ok((status, body.to_owned()))
}
