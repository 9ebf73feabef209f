/** Shortest time between two reports, in ms. */
const INTERVAL = 1_000;

/** Speaks at once, then at most once a second. */
class Throttle {
  readonly #report: (text: string) => void;
  #last = -Infinity;

  constructor(report: (text: string) => void) {
    this.#report = report;
  }

  say(text: () => string, now = false): void {
    const time = performance.now();
    if (!now && time - this.#last < INTERVAL) return;
    this.#last = time;
    this.#report(text());
  }
}

interface Layer {
  done: boolean;
  current: number;
  total: number;
}

/** Sums up the messages of a pull (Docker API, `POST /images/create`) in lines for a person. */
export class PullProgress {
  readonly #image: string;
  readonly #throttle: Throttle;
  readonly #layers = new Map<string, Layer>();

  constructor(image: string, report: (text: string) => void) {
    this.#image = image;
    this.#throttle = new Throttle(report);
    this.#throttle.say(() => `pulling ${image}`, true);
  }

  take(message: Record<string, unknown>): void {
    const { id, status } = message;
    // "Pulling from shop" carries the tag as its id.
    if (typeof id !== 'string' || typeof status !== 'string' || status.startsWith('Pulling from')) return;
    const layer = this.#layers.get(id) ?? { done: false, current: 0, total: 0 };
    this.#layers.set(id, layer);
    if (status === 'Pull complete' || status === 'Already exists') layer.done = true;
    if (status === 'Download complete') layer.current = layer.total;
    if (status === 'Downloading') {
      const detail = (message['progressDetail'] ?? {}) as { current?: number; total?: number };
      layer.current = detail.current ?? layer.current;
      layer.total = detail.total ?? layer.total;
    }
    this.#throttle.say(() => `pulling ${this.#image}: ${this.#sum()}`);
  }

  end(): void {
    this.#throttle.say(() => `pulled ${this.#image}: ${this.#sum()}`, true);
  }

  #sum(): string {
    const layers = [...this.#layers.values()];
    const done = layers.filter((layer) => layer.done).length;
    const current = layers.reduce((sum, layer) => sum + layer.current, 0);
    const total = layers.reduce((sum, layer) => sum + layer.total, 0);
    const bytes = total === 0 ? '' : `, ${mebibytes(current)} of ${mebibytes(total)} MiB`;
    return `${done} of ${layers.length} layers${bytes}`;
  }
}

/** Sums up the upload of an archive and the engine's messages about it (Docker API, `POST /images/load`). */
export class LoadProgress {
  /** Names (`shop:v1`) or, for images without one, ids (`sha256:…`) of what was loaded. */
  readonly loaded: string[] = [];
  readonly #what: string;
  readonly #throttle: Throttle;
  #bytes = 0;

  constructor(image: string, place: string, report: (text: string) => void) {
    this.#what = `${image} from ${place}`;
    this.#throttle = new Throttle(report);
    this.#throttle.say(() => `loading ${this.#what}`, true);
  }

  sent(bytes: number): void {
    this.#bytes += bytes;
    this.#throttle.say(() => `loading ${this.#what}: ${mebibytes(this.#bytes)} MiB`);
  }

  take(message: Record<string, unknown>): void {
    const line = typeof message['stream'] === 'string' ? message['stream'] : '';
    const name = /^Loaded image(?: ID)?: (\S+)/.exec(line)?.[1];
    if (name !== undefined) this.loaded.push(name);
  }

  end(): void {
    this.#throttle.say(() => `loaded ${this.#what}: ${mebibytes(this.#bytes)} MiB`, true);
  }
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
