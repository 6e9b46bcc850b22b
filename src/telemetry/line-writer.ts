import { write, writeSync } from 'node:fs'
import type { Clock } from '../core/clock.ts'

/** Lines wait at most this long in memory: one write for many of them keeps the log off the way of the requests. */
const flushEveryMs = 200
const bufferBytes = 256 * 1024

/**
 * Writes lines to a file descriptor without ever waiting for its reader. Two buffers of fixed size take turns: one is
 * filled while the other is written. When a reader is so slow that both are full, lines are dropped and counted, and
 * the next line that fits is preceded by the count: a log must not stop the service it tells of.
 */
export class LineWriter {
  readonly #fd: number
  readonly #stopFlushing: () => void
  #filling = Buffer.allocUnsafe(bufferBytes)
  #writing = Buffer.allocUnsafe(bufferBytes)
  #used = 0
  #isWriting = false
  #dropped = 0

  constructor(fd: number, clock: Clock) {
    this.#fd = fd
    this.#stopFlushing = clock.every(flushEveryMs, () => this.#flush())
  }

  /** Takes one line, with its line end. A line longer than a quarter of a buffer is written by itself. */
  write(line: string): void {
    // Three bytes are the most that a unit of a string takes as UTF-8.
    const bytesMax = line.length * 3
    if (bytesMax > bufferBytes / 4) {
      this.#writeNow(Buffer.from(line))
      return
    }
    if (this.#used + bytesMax > bufferBytes) this.#flush()
    if (this.#used + bytesMax > bufferBytes) {
      this.#dropped += 1
      return
    }
    if (this.#dropped > 0) {
      const note = `{"level":40,"msg":"${this.#dropped} log lines dropped: the reader of the log is too slow"}\n`
      this.#dropped = 0
      this.#used += this.#filling.write(note, this.#used)
    }
    this.#used += this.#filling.write(line, this.#used)
    if (this.#used > bufferBytes / 2) this.#flush()
  }

  /** Writes what is in memory and stops the timer. */
  close(): void {
    this.#stopFlushing()
    this.#writeNow(Buffer.alloc(0))
  }

  #flush(): void {
    if (this.#isWriting || this.#used === 0) return
    const full = this.#filling
    this.#filling = this.#writing
    this.#writing = full
    const length = this.#used
    this.#used = 0
    this.#isWriting = true
    this.#writeAll(full, 0, length)
  }

  #writeAll(bytes: Buffer, start: number, end: number): void {
    write(this.#fd, bytes, start, end - start, null, (error, written) => {
      // A log that cannot be written (its reader is gone, the disk is full) ends no request.
      if (error || start + written >= end) this.#isWriting = false
      else this.#writeAll(bytes, start + written, end)
    })
  }

  /** In order with what waits: for the last words of a process and for lines too long to wait. */
  #writeNow(bytes: Buffer): void {
    try {
      for (const part of [this.#filling.subarray(0, this.#used), bytes]) {
        for (let at = 0; at < part.length;) at += writeSync(this.#fd, part, at)
      }
    } catch {
      // As above.
    }
    this.#used = 0
  }
}
