/** The other end of `launchOwn`: what each program of this folder says to the benchmark that started it. */

/**
 * Tells the benchmark that this process is ready, and on which port if it has one. Ends this process when the
 * benchmark ends, however it ends.
 */
export function announce(port = 0): void {
  process.on('disconnect', () => process.exit(0))
  process.send?.({ port })
}

/** Answers each message of the benchmark with what `work` makes of it. */
export function answer(work: (order: unknown) => Promise<object>): void {
  process.on('message', (order) => {
    work(order).then(
      (report) => process.send?.(report),
      (error: unknown) => {
        console.error(error)
        process.exit(1)
      },
    )
  })
}
