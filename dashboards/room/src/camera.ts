// What a participant sends: camera and microphone, or a drawn picture and a soft tone for machines without them.

export type Source = 'real' | 'fake' | 'none';

const WIDTH = 1280;
const HEIGHT = 720;
const FRAMES_PER_SECOND = 15;

export class OwnMedia {
  audio: MediaStreamTrack | undefined;
  video: MediaStreamTrack | undefined;
  micOn = true;

  private readonly source: Source;
  private readonly label: string;
  private stopDrawing: () => void = () => {};
  private stopTone: () => void = () => {};

  private constructor(source: Source, label: string) {
    this.source = source;
    this.label = label;
  }

  /** Opens what there is; `trouble` hears what could not be opened. */
  static async open(source: Source, label: string, trouble: (what: string) => void): Promise<OwnMedia> {
    const own = new OwnMedia(source, label);
    if (source === 'fake') own.audio = own.tone();
    if (source === 'real') {
      const open = (constraints: MediaStreamConstraints) => navigator.mediaDevices.getUserMedia(constraints);
      const audio = await attempt('microphone', () => open({ audio: true }), trouble);
      own.audio = audio?.getAudioTracks()[0];
    }
    await own.openVideo(trouble);
    return own;
  }

  get camOn(): boolean {
    return this.video !== undefined;
  }

  async openVideo(trouble: (what: string) => void): Promise<void> {
    if (this.video) return;
    if (this.source === 'fake') this.video = this.drawing();
    if (this.source === 'real') {
      const size = { width: { ideal: WIDTH }, height: { ideal: HEIGHT }, frameRate: { ideal: 30, max: 30 } };
      const stream = await attempt('camera', () => navigator.mediaDevices.getUserMedia({ video: size }), trouble);
      this.video = stream?.getVideoTracks()[0];
    }
  }

  closeVideo(): void {
    this.video?.stop();
    this.video = undefined;
    this.stopDrawing();
  }

  close(): void {
    this.closeVideo();
    this.audio?.stop();
    this.audio = undefined;
    this.stopTone();
  }

  private drawing(): MediaStreamTrack | undefined {
    const canvas = document.createElement('canvas');
    canvas.width = WIDTH;
    canvas.height = HEIGHT;
    const pen = canvas.getContext('2d');
    if (!pen) return undefined;
    const draw = () => paint(pen, this.label, performance.now());
    draw();
    const timer = setInterval(draw, 1000 / FRAMES_PER_SECOND);
    this.stopDrawing = () => clearInterval(timer);
    return canvas.captureStream(FRAMES_PER_SECOND).getVideoTracks()[0];
  }

  private tone(): MediaStreamTrack | undefined {
    const context = new AudioContext();
    const oscillator = new OscillatorNode(context, { frequency: 330 });
    const volume = new GainNode(context, { gain: 0.03 });
    const out = new MediaStreamAudioDestinationNode(context);
    oscillator.connect(volume).connect(out);
    oscillator.start();
    this.stopTone = () => void context.close();
    return out.stream.getAudioTracks()[0];
  }
}

async function attempt(
  what: string,
  open: () => Promise<MediaStream>,
  trouble: (what: string) => void,
): Promise<MediaStream | undefined> {
  try {
    if (!navigator.mediaDevices) throw new Error('only on https pages and on localhost');
    return await open();
  } catch (error) {
    trouble(`No ${what}: ${error instanceof Error ? error.message : error}. You can still see and hear the others.`);
    return undefined;
  }
}

function paint(pen: CanvasRenderingContext2D, label: string, ms: number): void {
  const hue = (ms / 50) % 360;
  pen.fillStyle = `hsl(${hue} 45% 30%)`;
  pen.fillRect(0, 0, WIDTH, HEIGHT);
  pen.fillStyle = `hsl(${(hue + 150) % 360} 70% 60%)`;
  pen.beginPath();
  pen.arc(WIDTH / 2 + Math.sin(ms / 900) * WIDTH * 0.35, HEIGHT * 0.65, 70, 0, 2 * Math.PI);
  pen.fill();
  pen.fillStyle = 'white';
  pen.textAlign = 'center';
  pen.font = '64px system-ui, sans-serif';
  pen.fillText(label, WIDTH / 2, HEIGHT * 0.25, WIDTH * 0.9);
  pen.font = '48px monospace';
  pen.fillText(new Date().toISOString().slice(11, 21), WIDTH / 2, HEIGHT * 0.4);
}
