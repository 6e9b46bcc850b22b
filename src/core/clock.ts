/** The only place that reads the time or sets a timer; everything else is given a `Clock`. */
export interface Clock {
  /** Monotonic milliseconds since an arbitrary start. For durations: the wall clock may jump, this never does. */
  now(): number
  /** Milliseconds since the Unix epoch. For timestamps that leave the process. */
  wallMs(): number
  /** Resolves after `ms` milliseconds; rejects with the signal's reason when it is aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Calls `run` once after `ms` milliseconds. The returned function cancels it. */
  after(ms: number, run: () => void): () => void
  /** Calls `run` every `ms` milliseconds, first after one period. The returned function stops it. */
  every(ms: number, run: () => void): () => void
}

/** The clock of the running process. Its timers do not keep the process alive: sockets and children do. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wallMs: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error)
      const onAbort = () => {
        clearTimeout(timer)
        reject(signal?.reason as Error)
      }
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      }, ms)
      signal?.addEventListener('abort', onAbort, { once: true })
    }),
  after: (ms, run) => {
    const timer = setTimeout(run, ms).unref()
    return () => clearTimeout(timer)
  },
  every: (ms, run) => {
    const timer = setInterval(run, ms).unref()
    return () => clearInterval(timer)
  },
}
