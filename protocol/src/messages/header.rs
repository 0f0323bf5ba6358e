//! What stands in front of every message.
//!
//! A request header is of version 2 if the request is flexible, else 1: version 2 has tagged fields at its end, but
//! keeps the client id in the classic form. A response header is of version 1 if the response is flexible, else 0;
//! ApiVersions always answers with version 0, so that a client can read the answer to a version that the broker does
//! not have (KIP-511).

use bytes::{Buf, Bytes};
use smol_str::SmolStr;

use super::{ApiKey, Message, Request, Response, ResponseKind};
use crate::codec::{DecodeError, Decoder, EncodeError, Encoder, Layout, Segments, Value};

const CLASSIC: Layout = Layout { version: 1, flexible: false, nullable: true };

/// The header of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API: a number that may not be known to [`ApiKey`].
    pub api_key: i16,
    /// In which version.
    pub api_version: i16,
    /// Chosen by the client, repeated in the response.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<SmolStr>,
}

impl RequestHeader {
    /// Key, version and correlation id of a frame: the part that is the same in every header version, also for keys and
    /// versions that are not known. Enough to answer ApiVersions of the future. `client_id` stays None.
    pub fn peek(mut frame: &[u8]) -> Result<Self, DecodeError> {
        if frame.len() < 8 {
            return Err(DecodeError::Truncated { offset: 0, needed: 8, remaining: frame.len() });
        }
        let (api_key, api_version) = (frame.get_i16(), frame.get_i16());
        Ok(Self { api_key, api_version, correlation_id: frame.get_i32(), client_id: None })
    }

    /// Read the header; the body follows in `input`. A key that is not known is an error: its header version is not
    /// known either.
    pub fn decode(input: &mut Decoder) -> Result<(ApiKey, Self), DecodeError> {
        let (api_key, api_version, correlation_id) = (input.i16()?, input.i16()?, input.i32()?);
        let key = ApiKey::try_from(api_key)?;
        let client_id = Value::read(input, CLASSIC)?;
        if key.is_flexible(api_version) {
            input.tagged_fields(|_, _| Ok(false))?;
        }
        Ok((key, Self { api_key, api_version, correlation_id, client_id }))
    }

    /// Write the header in the version that its API and version ask for.
    pub fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        out.i16(self.api_key);
        out.i16(self.api_version);
        out.i32(self.correlation_id);
        self.client_id.write(out, CLASSIC)?;
        if ApiKey::try_from(self.api_key).is_ok_and(|key| key.is_flexible(self.api_version)) {
            out.uvarint(0);
        }
        Ok(())
    }
}

/// The header of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeader {
    /// That of the request.
    pub correlation_id: i32,
}

impl ResponseHeader {
    fn is_flexible(key: ApiKey, version: i16) -> bool {
        key != ApiKey::ApiVersions && key.is_flexible(version)
    }

    /// Read the header of a response to `key` in `version`; the body follows in `input`.
    pub fn decode(key: ApiKey, version: i16, input: &mut Decoder) -> Result<Self, DecodeError> {
        let correlation_id = input.i32()?;
        if Self::is_flexible(key, version) {
            input.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Self { correlation_id })
    }

    /// Write the header of a response to `key` in `version`.
    pub fn encode(self, key: ApiKey, version: i16, out: &mut Encoder) {
        out.i32(self.correlation_id);
        if Self::is_flexible(key, version) {
            out.uvarint(0);
        }
    }
}

/// A whole request as it travels: length, header, body.
pub fn request_frame<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Segments, EncodeError> {
    let mut out = Encoder::for_frame();
    let client_id = client_id.map(SmolStr::new);
    RequestHeader { api_key: R::KEY as i16, api_version: version, correlation_id, client_id }.encode(&mut out)?;
    request.encode(version, &mut out)?;
    out.into_frame()
}

/// A whole response as it travels: length, header, body, in the version of the request.
pub fn response_frame(response: &ResponseKind, version: i16, correlation_id: i32) -> Result<Segments, EncodeError> {
    let mut out = Encoder::for_frame();
    ResponseHeader { correlation_id }.encode(response.key(), version, &mut out);
    response.encode(version, &mut out)?;
    out.into_frame()
}

/// Read the response to a request of type `R`: `frame` is what follows the length.
pub fn read_response<R: Request>(frame: Bytes, version: i16) -> Result<(ResponseHeader, R::Response), DecodeError> {
    let mut input = Decoder::new(frame);
    let header = ResponseHeader::decode(R::Response::KEY, version, &mut input)?;
    Ok((header, R::Response::decode(version, &mut input)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, RequestKind};

    #[test]
    fn a_flexible_request_keeps_the_client_id_classic() {
        let request = MetadataRequest { topics: None, ..Default::default() };
        let frame = request_frame(&request, 9, 5, Some("me")).expect("fits").into_bytes();
        let body = [0, 1, 0, 0, 0];
        let golden = [&[0, 0, 0, 18, 0, 3, 0, 9, 0, 0, 0, 5, 0, 2, b'm', b'e', 0][..], &body].concat();
        assert_eq!(frame, golden);

        let mut input = Decoder::new(frame.slice(4..));
        let (key, header) = RequestHeader::decode(&mut input).expect("valid");
        assert_eq!((key, header.correlation_id, header.client_id.as_deref()), (ApiKey::Metadata, 5, Some("me")));
        assert_eq!(RequestKind::decode(key, header.api_version, &mut input), Ok(request.into()));
        assert_eq!(input.remaining(), 0);
    }

    #[test]
    fn api_versions_answers_with_a_classic_header() {
        let response = ApiVersionsResponse { error_code: 35, ..Default::default() };
        let frame = response_frame(&response.clone().into(), 3, 7).expect("fits").into_bytes();
        assert_eq!(frame, [0, 0, 0, 12, 0, 0, 0, 7, 0, 35, 1, 0, 0, 0, 0, 0][..]);
        let (header, read) = read_response::<ApiVersionsRequest>(frame.slice(4..), 3).expect("valid");
        assert_eq!((header.correlation_id, read), (7, response));
    }

    #[test]
    fn the_start_of_any_header_can_be_read() {
        let header = RequestHeader::peek(&[0, 18, 0, 99, 0, 0, 0, 1, 0xff, 0xff]).expect("long enough");
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (18, 99, 1));
        assert!(RequestHeader::peek(&[0, 18, 0, 99, 0, 0, 0]).is_err());
    }
}
