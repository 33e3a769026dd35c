// A participant's media in one room, over one connection: transports, what it sends and receives, chat.

import { Device } from 'mediasoup-client';
import type * as ms from 'mediasoup-client/types';
import type { OwnMedia } from './camera';
import type { Protoo } from './protoo';
import type { Member } from './session';

export interface Peer {
  id: string;
  name: string;
  /** Keeps sound and picture together; an id of a peer may hold what SDP does not allow. */
  stream: string;
  consumers: Map<string, ms.Consumer>;
}

export interface RoomListener {
  /** Somebody came or went, or sends something else than before. */
  peersChanged(): void;
  said(peerId: string, text: string): void;
  /** Something does not work, but the participant stays. */
  trouble(what: string): void;
}

interface PeerInfo {
  id: string;
  displayName?: string;
}

interface NewConsumer {
  peerId: string;
  producerId: string;
  id: string;
  kind: ms.MediaKind;
  rtpParameters: ms.RtpParameters;
  producerPaused?: boolean;
}

interface NewDataConsumer {
  peerId: string | null;
  dataProducerId: string;
  id: string;
  sctpStreamParameters: ms.SctpStreamParameters;
  label?: string;
  protocol?: string;
}

/** Three layers of one picture; the node gives each receiver the one that fits. */
const SIMULCAST: ms.RtpEncodingParameters[] = [
  { scaleResolutionDownBy: 4, maxBitrate: 250_000, scalabilityMode: 'L1T3' },
  { scaleResolutionDownBy: 2, maxBitrate: 700_000, scalabilityMode: 'L1T3' },
  { scaleResolutionDownBy: 1, maxBitrate: 2_500_000, scalabilityMode: 'L1T3' },
];
const SCTP_STREAMS = { numStreams: { OS: 1024, MIS: 1024 } };
/** A short break often heals by itself. */
const PATIENCE_MS = 1_000;
const RESTART_TAKES_MS = 4_000;
const MOST_RESTARTS = 3;
const LONGEST_TEXT = 2_000;

export class Room implements Member {
  readonly peers = new Map<string, Peer>();

  private socket: Protoo | undefined;
  private device: Device | undefined;
  private sending: ms.Transport | undefined;
  private receiving: ms.Transport | undefined;
  private mic: ms.Producer | undefined;
  private cam: ms.Producer | undefined;
  private chat: ms.DataProducer | undefined;
  private closed = false;
  private met = 0;
  /** What the node asks and tells is done in its order: a consumer may close while it is still being made. */
  private queue: Promise<unknown> = Promise.resolve();
  private readonly repairing = new Set<string>();

  private readonly name: string;
  private readonly own: OwnMedia;
  private readonly listener: RoomListener;
  private readonly drop: (why: string) => void;

  constructor(name: string, own: OwnMedia, listener: RoomListener, drop: (why: string) => void) {
    this.name = name;
    this.own = own;
    this.listener = listener;
    this.drop = drop;
  }

  async join(socket: Protoo): Promise<void> {
    this.socket = socket;
    const routerRtpCapabilities = await socket.request<ms.RtpCapabilities>('getRouterRtpCapabilities');
    const device = await Device.factory();
    await device.load({ routerRtpCapabilities });
    this.device = device;
    this.sending = await this.transport('send');
    this.receiving = await this.transport('recv');
    const { peers } = await socket.request<{ peers: PeerInfo[] }>('join', {
      displayName: this.name,
      device: { flag: 'chrome', name: 'Roost room', version: '1' },
      rtpCapabilities: device.recvRtpCapabilities,
      sctpCapabilities: SCTP_STREAMS,
    });
    for (const peer of peers) this.peer(peer.id, peer.displayName);
    this.listener.peersChanged();
    void this.sendAll();
  }

  async request(method: string, data: never): Promise<unknown> {
    try {
      if (method === 'newConsumer') return await this.inOrder(() => this.consume(data));
      if (method === 'newDataConsumer') return await this.inOrder(() => this.consumeData(data));
    } catch (error) {
      if (!this.closed) this.listener.trouble(`${method}: ${error instanceof Error ? error.message : error}`);
      throw error;
    }
    throw new Error(`${method} is not known`);
  }

  notification(method: string, data: never): void {
    this.inOrder(() => this.hear(method, data)).catch((error) => this.listener.trouble(`${method}: ${error.message}`));
  }

  /** Sends the microphone's sound, or silence. */
  async setMic(on: boolean): Promise<void> {
    if (!this.mic) return;
    if (on) this.mic.resume();
    else this.mic.pause();
    await this.socket?.request(on ? 'resumeProducer' : 'pauseProducer', { producerId: this.mic.id });
  }

  /** Takes the camera's present track into the room, or out of it. */
  async setCam(on: boolean): Promise<void> {
    if (on && !this.cam) return this.sendVideo();
    if (on || !this.cam) return;
    const producerId = this.cam.id;
    this.cam.close();
    this.cam = undefined;
    await this.socket?.request('closeProducer', { producerId });
  }

  say(text: string): boolean {
    if (this.chat?.readyState !== 'open') return false;
    this.chat.send(text.slice(0, LONGEST_TEXT));
    return true;
  }

  async preferLayers(consumerId: string, spatialLayer: number, temporalLayer: number): Promise<void> {
    await this.socket?.request('setConsumerPreferredLayers', { consumerId, spatialLayer, temporalLayer });
  }

  close(): void {
    this.closed = true;
    this.sending?.close();
    this.receiving?.close();
    this.peers.clear();
    this.listener.peersChanged();
  }

  private inOrder<T>(step: () => T | Promise<T>): Promise<T> {
    const done = this.queue.then(step);
    this.queue = done.catch(() => {});
    return done;
  }

  private async transport(direction: 'send' | 'recv'): Promise<ms.Transport> {
    const { socket, device } = this;
    if (!socket || !device) throw new Error('not connected');
    const options = await socket.request<ms.TransportOptions>('createWebRtcTransport', {
      forceTcp: false,
      producing: direction === 'send',
      consuming: direction === 'recv',
      sctpCapabilities: SCTP_STREAMS,
    });
    if (this.closed) throw new Error('closed meanwhile');
    const transport = direction === 'send' ? device.createSendTransport(options) : device.createRecvTransport(options);
    const transportId = transport.id;
    transport.on('connect', ({ dtlsParameters }, done, failed) => {
      socket.request('connectWebRtcTransport', { transportId, dtlsParameters }).then(done, failed);
    });
    transport.on('produce', ({ kind, rtpParameters, appData }, done, failed) => {
      socket.request<{ id: string }>('produce', { transportId, kind, rtpParameters, appData }).then(done, failed);
    });
    transport.on('producedata', ({ sctpStreamParameters, label, protocol, appData }, done, failed) => {
      const data = { transportId, sctpStreamParameters, label, protocol, appData };
      socket.request<{ id: string }>('produceData', data).then(done, failed);
    });
    transport.on('connectionstatechange', (state) => {
      if (state === 'disconnected' || state === 'failed') void this.repair(transport);
    });
    return transport;
  }

  private async sendAll(): Promise<void> {
    const steps: [string, () => Promise<void>][] = [
      ['The others do not hear you', () => this.sendAudio()],
      ['The others do not see you', () => this.sendVideo()],
      ['The chat does not work', () => this.openChat()],
    ];
    for (const [otherwise, step] of steps) {
      try {
        await step();
      } catch (error) {
        if (this.closed) return;
        this.listener.trouble(`${otherwise}: ${error instanceof Error ? error.message : error}`);
      }
    }
  }

  private async sendAudio(): Promise<void> {
    const track = this.own.audio;
    if (!track || !this.sending) return;
    this.mic = await this.sending.produce({ track, stopTracks: false, codecOptions: { opusDtx: true, opusFec: true } });
    if (!this.own.micOn) await this.setMic(false);
  }

  private async sendVideo(): Promise<void> {
    const track = this.own.video;
    if (!track || !this.sending) return;
    this.cam = await this.sending.produce({
      track,
      stopTracks: false,
      encodings: SIMULCAST,
      codecOptions: { videoGoogleStartBitrate: 1000 },
    });
  }

  private async openChat(): Promise<void> {
    this.chat = await this.sending?.produceData({ label: 'chat', appData: { info: 'chat' } });
  }

  private async consume(data: NewConsumer): Promise<object> {
    const { peerId, id, producerId, kind, rtpParameters, producerPaused } = data;
    if (!this.receiving) throw new Error('no transport to receive with');
    const peer = this.peer(peerId);
    const consumer = await this.receiving.consume({ id, producerId, kind, rtpParameters, streamId: peer.stream });
    if (producerPaused) consumer.pause();
    peer.consumers.set(id, consumer);
    this.listener.peersChanged();
    return {};
  }

  private async consumeData(data: NewDataConsumer): Promise<object> {
    const { peerId, id, dataProducerId, sctpStreamParameters, label, protocol } = data;
    if (!this.receiving) throw new Error('no transport to receive with');
    const consumer = await this.receiving.consumeData({
      id,
      dataProducerId,
      sctpStreamParameters,
      ...(label && { label }),
      ...(protocol && { protocol }),
    });
    if (label !== 'chat') return {};
    consumer.on('message', (text) => {
      if (typeof text === 'string') this.listener.said(peerId ?? '', text.slice(0, LONGEST_TEXT));
    });
    return {};
  }

  private hear(method: string, data: { peerId?: string; consumerId?: string } & PeerInfo): void {
    const consumer = data.consumerId === undefined ? undefined : this.consumer(data.consumerId);
    if (method === 'newPeer') this.peer(data.id, data.displayName);
    else if (method === 'peerDisplayNameChanged') this.peer(data.peerId ?? '', data.displayName);
    else if (method === 'peerClosed') this.peers.delete(data.peerId ?? '');
    else if (method === 'consumerPaused') consumer?.pause();
    else if (method === 'consumerResumed') consumer?.resume();
    else if (method === 'consumerClosed') {
      consumer?.close();
      for (const { consumers } of this.peers.values()) consumers.delete(data.consumerId ?? '');
    } else return;
    this.listener.peersChanged();
  }

  private consumer(id: string): ms.Consumer | undefined {
    for (const { consumers } of this.peers.values()) if (consumers.has(id)) return consumers.get(id);
    return undefined;
  }

  private peer(id: string, name?: string): Peer {
    let peer = this.peers.get(id);
    if (!peer) {
      this.met += 1;
      peer = { id, name: id, stream: `peer-${this.met}`, consumers: new Map() };
      this.peers.set(id, peer);
    }
    if (name) peer.name = name;
    return peer;
  }

  /** Restarts ICE until the transport is connected again; gives the connection up when that does not help. */
  private async repair(transport: ms.Transport): Promise<void> {
    if (this.repairing.has(transport.id)) return;
    this.repairing.add(transport.id);
    try {
      if (transport.connectionState === 'disconnected') await pause(PATIENCE_MS);
      for (let attempt = 0; attempt < MOST_RESTARTS && isBroken(transport); attempt += 1) {
        const answer = await this.socket?.request<ms.IceParameters & { iceParameters?: ms.IceParameters }>(
          'restartIce',
          {
            transportId: transport.id,
          },
        );
        if (!answer || transport.closed) return;
        await transport.restartIce({ iceParameters: answer.iceParameters ?? answer });
        await pause(RESTART_TAKES_MS);
      }
      if (isBroken(transport)) this.drop('the media connection is lost');
    } catch (error) {
      if (!this.closed) this.drop(`the media connection is lost: ${error instanceof Error ? error.message : error}`);
    } finally {
      this.repairing.delete(transport.id);
    }
  }
}

function isBroken({ closed, connectionState }: ms.Transport): boolean {
  return !closed && (connectionState === 'disconnected' || connectionState === 'failed');
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
