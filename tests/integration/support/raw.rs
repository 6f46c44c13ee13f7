//! Calls as no client library makes them: any bytes to any method, with deadlines that only the server watches.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tonic::Status;

use super::Server;

/// A unary call.
pub(crate) struct Call<'a> {
    pub(crate) path: &'a str,
    /// One message, without its frame.
    pub(crate) message: Vec<u8>,
    /// As on the wire, for instance `300m`.
    pub(crate) timeout: Option<&'a str>,
}

impl Call<'_> {
    /// How the server answers, by its headers or trailers.
    pub(crate) async fn status(self, server: &Server) -> Status {
        let tcp = TcpStream::connect(&server.address).await.expect("the server accepts");
        let (client, connection) = h2::client::handshake(tcp).await.expect("it speaks HTTP/2");
        let driving = tokio::spawn(connection);
        let mut request = Request::post(format!("http://{}{}", server.address, self.path))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(timeout) = self.timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let request = request.body(()).expect("valid headers");
        let mut client = client.ready().await.expect("there is room for a stream");
        let (response, mut body) = client.send_request(request, false).expect("it is sent");
        body.send_data(framed(&self.message), true).expect("it is sent");
        let response = response.await.expect("it answers");
        let status = match Status::from_header_map(response.headers()) {
            Some(status) => status,
            None => trailers(response.into_body()).await,
        };
        driving.abort();
        status
    }
}

async fn trailers(mut body: h2::RecvStream) -> Status {
    while let Some(data) = body.data().await {
        let data = data.expect("the stream works");
        body.flow_control().release_capacity(data.len()).expect("it was received");
    }
    let trailers: HeaderMap = body.trailers().await.expect("the stream works").expect("it ends with a status");
    Status::from_header_map(&trailers).expect("a status")
}

/// A message as gRPC frames it: not compressed, then its length.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a small message"));
    frame.extend_from_slice(message);
    frame.freeze()
}
