// What arrives, per consumer: bytes, frames, size and rate.

import type { Peer } from './room';

export interface ConsumerStats {
  peer: string;
  name: string;
  consumer: string;
  kind: 'audio' | 'video';
  bytesReceived: number;
  packetsLost: number;
  /** Bits per second over the last second or more. */
  bitrate: number;
  /** Video only, else 0. */
  framesDecoded: number;
  width: number;
  height: number;
  /** Audio only, else 0: grows while there is sound. */
  audioEnergy: number;
}

interface Sample {
  bytes: number;
  at: number;
  bitrate: number;
}

/** Rates over less than this jump too much to be read. */
const SHORTEST_SPAN_MS = 900;

export class Meter {
  private samples = new Map<string, Sample>();

  async read(peers: Iterable<Peer>): Promise<ConsumerStats[]> {
    const all: ConsumerStats[] = [];
    const kept = new Map<string, Sample>();
    for (const peer of peers) {
      for (const consumer of peer.consumers.values()) {
        if (consumer.closed) continue;
        const stats = inbound(await consumer.getStats());
        const bytesReceived = number(stats.bytesReceived);
        const sample = this.sample(consumer.id, bytesReceived);
        kept.set(consumer.id, sample);
        all.push({
          peer: peer.id,
          name: peer.name,
          consumer: consumer.id,
          kind: consumer.kind,
          bytesReceived,
          packetsLost: number(stats.packetsLost),
          bitrate: sample.bitrate,
          framesDecoded: number(stats.framesDecoded),
          width: number(stats.frameWidth),
          height: number(stats.frameHeight),
          audioEnergy: number(stats.totalAudioEnergy),
        });
      }
    }
    this.samples = kept;
    return all;
  }

  private sample(id: string, bytes: number): Sample {
    const at = performance.now();
    const before = this.samples.get(id);
    if (!before) return { bytes, at, bitrate: 0 };
    const span = at - before.at;
    if (span < SHORTEST_SPAN_MS) return before;
    return { bytes, at, bitrate: Math.max(0, Math.round(((bytes - before.bytes) * 8000) / span)) };
  }
}

function inbound(report: RTCStatsReport): Record<string, unknown> {
  for (const stats of report.values()) if (stats.type === 'inbound-rtp') return stats;
  return {};
}

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}
