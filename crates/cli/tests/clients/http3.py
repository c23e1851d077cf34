# An HTTP/3 server and client (aioquic). serve DIRECTORY | get ADDRESS PATH
import asyncio, hashlib, ssl, sys
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Server(QuicConnectionProtocol):
    http = None

    def quic_event_received(self, event):
        self.http = self.http or H3Connection(self._quic)
        for got in self.http.handle_event(event):
            if isinstance(got, HeadersReceived):
                path = dict(got.headers)[b":path"].decode()
                data = open(sys.argv[2] + "/web" + path, "rb").read()
                self.http.send_headers(got.stream_id, [(b":status", b"200")])
                self.http.send_data(got.stream_id, data, end_stream=True)
                self.transmit()


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.http, self.data, self.done = H3Connection(self._quic), b"", asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        for got in self.http.handle_event(event):
            if isinstance(got, HeadersReceived):
                self.status = dict(got.headers)[b":status"].decode()
            if isinstance(got, DataReceived):
                self.data += got.data
            if getattr(got, "stream_ended", False) and not self.done.done():
                self.done.set_result(None)

    async def get(self, path):
        stream = self._quic.get_next_available_stream_id()
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"server.test"), (b":path", path.encode())]
        self.http.send_headers(stream, head, end_stream=True)
        self.transmit()
        await asyncio.wait_for(self.done, 20)
        print(self.status, hashlib.sha256(self.data).hexdigest())


async def main():
    if sys.argv[1] == "serve":
        configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
        configuration.load_cert_chain(sys.argv[2] + "/cert.pem", sys.argv[2] + "/key.pem")
        await serve("0.0.0.0", 443, configuration=configuration, create_protocol=Server)
        await asyncio.Future()
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
    async with connect(sys.argv[2], 443, configuration=configuration, create_protocol=Client) as client:
        await client.get(sys.argv[3])


asyncio.run(main())
