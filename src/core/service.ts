/** Anything that holds a timer, a socket or a child process. Stopping before starting and stopping twice are safe. */
export interface Service {
  readonly name: string
  start(): Promise<void>
  stop(): Promise<void>
}

/**
 * Starts services in order. When one fails, those already started are stopped in reverse and its error is thrown.
 * The returned function stops all in reverse; a service that fails to stop does not keep the others running.
 */
export async function startInOrder(services: readonly Service[]): Promise<() => Promise<void>> {
  const started: Service[] = []
  const stopAll = async () => {
    const errors: unknown[] = []
    for (let service = started.pop(); service; service = started.pop()) {
      await service.stop().catch((error: unknown) => errors.push(error))
    }
    if (errors.length > 0)
      throw errors.length === 1 ? errors[0] : new AggregateError(errors, 'stopping failed')
  }
  for (const service of services) {
    // Listed before it starts: a half-started service may hold a socket or a child, and stop() must release it.
    started.push(service)
    try {
      await service.start()
    } catch (error) {
      await stopAll().catch(() => {})
      throw error
    }
  }
  return stopAll
}
