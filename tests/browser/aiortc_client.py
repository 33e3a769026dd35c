"""An independent client: aiortc and pymediasoup join a room by lookup, send a tone and a moving picture, and receive.

Prints one line of JSON; exit code 0 when enough sound arrived that is no silence, 1 when not.
"""

import argparse
import asyncio
import fractions
import json
import logging
import math
import random
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from array import array

import websockets
from aiortc.mediastreams import MediaStreamTrack, VideoStreamTrack
from av import AudioFrame, VideoFrame
from pymediasoup import AiortcHandler, Device
from pymediasoup.models.transport import DtlsParameters, IceCandidate, IceParameters
from pymediasoup.rtp_parameters import RtpCapabilities, RtpParameters

MOST_REDIRECTS = 3
ANSWER_TIMEOUT_S = 10
RATE = 48_000
SAMPLES = 960
TONE_HZ = 440


class Failure(Exception):
    """Why the client did not get what it should; the message is for the person who runs it."""


class Redirected(Exception):
    """The node says where to go."""

    def __init__(self, data):
        super().__init__(data["location"])
        self.data = data


class Tone(MediaStreamTrack):
    """A sine wave, in stereo, in real time."""

    kind = "audio"

    def __init__(self):
        super().__init__()
        self.sent = 0
        self.start = time.monotonic()

    async def recv(self):
        await asyncio.sleep(max(0.0, self.start + self.sent / RATE - time.monotonic()))
        samples = array("h")
        for i in range(self.sent, self.sent + SAMPLES):
            samples.extend([int(8_000 * math.sin(2 * math.pi * TONE_HZ * i / RATE))] * 2)
        frame = AudioFrame(format="s16", layout="stereo", samples=SAMPLES)
        frame.planes[0].update(samples.tobytes())
        frame.sample_rate, frame.pts, frame.time_base = RATE, self.sent, fractions.Fraction(1, RATE)
        self.sent += SAMPLES
        return frame


class Stripes(VideoStreamTrack):
    """Grey stripes that move, small enough for any machine."""

    WIDTH, HEIGHT = 320, 240

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        frame = VideoFrame(self.WIDTH, self.HEIGHT, "yuv420p")
        shift = pts // 3000
        for plane in frame.planes:
            luma = plane.width == self.WIDTH
            row = bytes(64 + (x + shift) % 128 if luma else 128 for x in range(plane.line_size))
            plane.update(row * plane.height)
        frame.pts, frame.time_base = pts, time_base
        return frame


class Protoo:
    """Requests both ways over one WebSocket; what the node asks is answered in its order."""

    def __init__(self, socket, answer):
        self.socket = socket
        self.answer = answer
        self.waiting = {}
        self.asked = asyncio.Queue(64)
        self.done = asyncio.get_running_loop().create_future()
        self.tasks = [asyncio.create_task(self.read()), asyncio.create_task(self.serve())]

    async def request(self, method, data=None):
        request_id = random.randrange(10_000_000)
        self.waiting[request_id] = asyncio.get_running_loop().create_future()
        await self.send({"request": True, "id": request_id, "method": method, "data": data or {}})
        try:
            answered = {self.waiting[request_id], self.done}
            await asyncio.wait(answered, timeout=ANSWER_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if self.waiting[request_id].done():
                return self.waiting[request_id].result()
            if self.done.done():
                self.done.result()
            raise Failure(f"{method}: no answer")
        finally:
            del self.waiting[request_id]

    async def send(self, frame):
        try:
            await self.socket.send(json.dumps(frame))
        except websockets.ConnectionClosed:
            await self.done

    async def read(self):
        problem = None
        try:
            async for text in self.socket:
                frame = json.loads(text)
                if frame.get("response"):
                    self.settle(frame)
                elif frame.get("request"):
                    await self.asked.put(frame)
                elif frame.get("method") == "redirect":
                    return self.done.set_exception(Redirected(frame["data"]))
                elif frame.get("method") == "error":
                    problem = frame["data"]
        except websockets.ConnectionClosed:
            pass
        says = problem or f"closed with {self.socket.close_code} {self.socket.close_reason}"
        self.done.set_exception(Failure(f"the node ended the connection: {says}"))

    async def serve(self):
        while True:
            frame = await self.asked.get()
            try:
                data = await self.answer(frame["method"], frame.get("data") or {})
                await self.send({"response": True, "id": frame["id"], "ok": True, "data": data or {}})
            except Exception as error:  # whatever it is, the node is told
                says = {"ok": False, "errorCode": 500, "errorReason": repr(error)[:200]}
                await self.send({"response": True, "id": frame["id"], **says})

    def settle(self, frame):
        future = self.waiting.get(frame.get("id"))
        if future and not future.done():
            if frame.get("ok"):
                future.set_result(frame.get("data") or {})
            else:
                future.set_exception(Failure(f"refused: {frame.get('errorCode')} {frame.get('errorReason')}"))

    def close(self):
        for task in self.tasks:
            task.cancel()
        if self.done.done():
            self.done.exception()


class Client:
    """One stay in a room."""

    def __init__(self, wish):
        self.wish = wish
        self.tracks = [Tone(), Stripes()]
        self.device = Device(handlerFactory=AiortcHandler.createFactory(tracks=self.tracks))
        self.audio = {"frames": 0, "loud_frames": 0, "loudest_rms": 0}
        self.video = {"frames": 0, "width": 0, "height": 0}
        self.sends = []
        self.tasks = []
        self.transports = []

    async def stay(self, url):
        async with websockets.connect(url, subprotocols=["protoo"], max_size=2**20, open_timeout=10) as socket:
            if socket.subprotocol != "protoo":
                raise Failure("the node did not answer with the subprotocol protoo")
            self.protoo = Protoo(socket, self.answer)
            try:
                await self.join()
                deadline = time.monotonic() + self.wish.seconds
                while time.monotonic() < deadline or not self.enough():
                    await asyncio.wait([self.protoo.done], timeout=0.2)
                    if self.protoo.done.done():
                        self.protoo.done.result()
            finally:
                self.protoo.close()
                for task in self.tasks:
                    task.cancel()
                for transport in self.transports:
                    await transport.close()

    async def join(self):
        request = self.protoo.request
        await self.device.load(RtpCapabilities(**await request("getRouterRtpCapabilities")))
        send = await self.transport(producing=True)
        self.receiving = await self.transport(producing=False)
        capabilities = self.device.rtpCapabilities.model_dump(exclude_none=True)
        device = {"flag": "aiortc", "name": "aiortc", "version": "1"}
        await request("join", {"displayName": "aiortc", "device": device, "rtpCapabilities": capabilities})
        for track in self.tracks:
            producer = await send.produce(track=track, stopTracks=False, appData={})
            self.sends.append({"kind": track.kind, "producer": producer.id})

    async def transport(self, producing):
        asked = {"forceTcp": False, "producing": producing, "consuming": not producing}
        data = await self.protoo.request("createWebRtcTransport", asked)
        make = self.device.createSendTransport if producing else self.device.createRecvTransport
        transport = make(
            id=data["id"],
            iceParameters=IceParameters(**data["iceParameters"]),
            # pymediasoup knows a candidate's address by its older name.
            iceCandidates=[IceCandidate(**{"ip": c.get("address"), **c}) for c in data["iceCandidates"]],
            dtlsParameters=DtlsParameters(**data["dtlsParameters"]),
            sctpParameters=None,
        )
        self.transports.append(transport)

        @transport.on("connect")
        async def connect(parameters):
            data = {"transportId": transport.id, "dtlsParameters": parameters.model_dump(exclude_none=True)}
            await self.protoo.request("connectWebRtcTransport", data)

        @transport.on("produce")
        async def produce(kind, rtpParameters, appData):
            rtp = rtpParameters.model_dump(exclude_none=True)
            data = {"transportId": transport.id, "kind": kind, "rtpParameters": rtp, "appData": appData or {}}
            return (await self.protoo.request("produce", data))["id"]

        return transport

    async def answer(self, method, data):
        if method == "newConsumer":
            consumer = await self.receiving.consume(
                id=data["id"],
                producerId=data["producerId"],
                kind=data["kind"],
                rtpParameters=RtpParameters(**data["rtpParameters"]),
            )
            hear_or_see = self.hear if data["kind"] == "audio" else self.see
            self.tasks.append(asyncio.create_task(hear_or_see(consumer.track)))
        elif method != "newDataConsumer":
            raise Failure(f"{method} is not known")

    async def hear(self, track):
        while True:
            frame = await track.recv()
            samples = array("h", bytes(frame.planes[0])[: frame.samples * 4])
            rms = math.sqrt(sum(s * s for s in samples[::8]) / max(1, len(samples[::8])))
            self.audio["frames"] += 1
            self.audio["loud_frames"] += rms > 50
            self.audio["loudest_rms"] = max(self.audio["loudest_rms"], round(rms))

    async def see(self, track):
        while True:
            frame = await track.recv()
            self.video["frames"] += 1
            self.video["width"], self.video["height"] = frame.width, frame.height

    def enough(self):
        return self.audio["frames"] >= self.wish.frames and self.audio["loud_frames"] > 0


def lookup(wish):
    """Where the room lives: the address to connect to, and what the scheduler said."""
    namespace, room = (urllib.parse.quote(part, safe="") for part in (wish.namespace, wish.room))
    url = f"{wish.scheduler.rstrip('/')}/v1/namespaces/{namespace}/rooms/{room}/lookup"
    request = urllib.request.Request(url, data=b"{}", headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            reply = json.load(response)
    except urllib.error.HTTPError as error:
        raise Failure(f"lookup: {error.code} {error.read(2000).decode(errors='replace')}") from None
    except OSError as error:
        raise Failure(f"lookup: {url}: {error}") from None
    return address(wish, reply["node"]["signaling_url"], reply["ticket"]), reply


def address(wish, base, ticket=""):
    query = {"roomId": wish.room, "peerId": wish.peer, "namespace": wish.namespace, "redirect": "true"}
    if ticket:
        query["ticket"] = ticket
    return f"{base}{'&' if '?' in base else '?'}{urllib.parse.urlencode(query)}"


async def run(wish):
    result = {"ok": False, "peer": wish.peer, "redirects": 0}
    client = None
    try:
        if wish.ws:
            url = address(wish, wish.ws)
        else:
            url, reply = await asyncio.to_thread(lookup, wish)
            result |= {"node": reply["node"]["id"], "epoch": reply["epoch"], "outcome": reply["outcome"]}
        async with asyncio.timeout(wish.timeout):
            for _ in range(MOST_REDIRECTS + 1):
                client = Client(wish)
                try:
                    await client.stay(url)
                    result["ok"] = True
                    break
                except Redirected as redirect:
                    url = redirect.data["location"]
                    result |= {key: redirect.data.get(key) for key in ("node", "epoch")}
                    result["redirects"] += 1
            else:
                raise Failure(f"redirected {result['redirects']} times without arriving")
    except TimeoutError:
        result["failure"] = f"fewer than {wish.frames} frames of sound, or silence, in {wish.timeout} s"
    except (Failure, OSError, websockets.WebSocketException) as error:
        result["failure"] = str(error)
    if client:
        result |= {"audio": client.audio, "video": client.video, "sends": client.sends}
    print(json.dumps(result), flush=True)
    return result["ok"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheduler", help="public listener, for the lookup")
    parser.add_argument("--ws", help="a scheduler's or node's WebSocket, in place of a lookup")
    parser.add_argument("--room", required=True)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--peer", default="aiortc")
    parser.add_argument("--frames", type=int, default=100, help="how many frames of sound must arrive")
    parser.add_argument("--seconds", type=float, default=3, help="how long to stay at least")
    parser.add_argument("--timeout", type=float, default=40)
    wish = parser.parse_args()
    if not wish.scheduler and not wish.ws:
        parser.error("--scheduler or --ws: expected a URL")
    logging.disable(logging.WARNING)
    sys.exit(0 if asyncio.run(run(wish)) else 1)


if __name__ == "__main__":
    main()
