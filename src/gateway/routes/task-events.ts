import type { FastifyInstance } from 'fastify'
import { fail, toErrorBody } from '../../core/errors.ts'
import { isFinal } from '../../storage/task-states.ts'
import { EventStream, formatNamedEvent } from '../event-stream.ts'
import { explain } from '../reply.ts'
import { SlowReaders } from '../slow-readers.ts'
import { describeDetail, describeEvent } from '../task-object.ts'
import { readTaskId, type OneTask, type TaskParts } from '../task-parts.ts'
import { parsePlace, type EventPlace, type Query } from '../task-query.ts'
import { eventsSchema } from '../task-schemas.ts'

/** How long a client that was cut off should wait before it comes back. */
const retryMs = 1_000
const farewell = `: the server is stopping; come back with Last-Event-ID\nretry: ${retryMs}\n\n`
const busy = `: too many results wait for slow readers; come back with Last-Event-ID\nretry: ${retryMs}\n\n`

/** `GET /v1/tasks/{id}/events`: the states of a task, its progress, and at the end its result. */
export function addTaskEventRoutes(app: FastifyInstance, parts: TaskParts): void {
  const { queue, clock, settings, log } = parts
  const readers = new SlowReaders()
  const closing = new AbortController()
  app.addHook('preClose', (done) => {
    closing.abort()
    done()
  })

  const options = { schema: eventsSchema, exposeHeadRoute: false }
  app.get<OneTask>('/v1/tasks/:id/events', options, async (request, reply) => {
    const tenant = request.record.caller.tenant
    const id = readTaskId(request)
    const place = parsePlace(request.query as Query, request.headers['last-event-id'])
    const { task, history } = await queue.get(tenant, id)
    const lastSeq = history.at(-1)?.seq ?? 0
    // Browsers come back after every end; this answer tells them that there is no more.
    if (place.hasResult && isFinal(task.status) && lastSeq <= place.seq) return reply.code(204).send()
    if (closing.signal.aborted) throw fail('shutting_down', { retryAfterMs: retryMs })

    reply.hijack()
    const { record } = request
    record.stream = true
    record.model = task.model
    const stream = new EventStream({ response: reply.raw, clock, stallMs: settings().stallMs })
    stream.open({ 'x-request-id': request.id }, `retry: ${retryMs}\n\n`)
    try {
      const text = await tellAll(stream, { tenant, id, place })
      if (!(await readers.send(text.length, () => stream.end(text)))) await stream.end(busy)
    } catch (thrown) {
      const error = explain(thrown, record, log)
      record.error = error.code
      await stream.end(formatNamedEvent('error', toErrorBody(error)))
    }
    return reply
  })

  /** Sends states and progress as they come; resolves with the last words. */
  async function tellAll(
    stream: EventStream,
    { tenant, id, place }: { tenant: string; id: string; place: EventPlace },
  ): Promise<string> {
    const signal = AbortSignal.any([stream.signal, closing.signal])
    let { seq } = place
    for (;;) {
      for await (const news of queue.follow(tenant, id, seq, signal)) {
        if (news.kind === 'progress') {
          await stream.send(formatNamedEvent('progress', { completion_tokens: news.completionTokens }))
        } else {
          seq = news.event.seq
          await stream.send(
            formatNamedEvent('state', { task: id, ...describeEvent(news.event) }, String(seq)),
          )
        }
        if (signal.aborted) break
      }
      if (signal.aborted) return farewell
      const detail = await queue.get(tenant, id)
      const lastSeq = detail.history.at(-1)?.seq ?? 0
      // Somebody may have put it back into the line since its last state: then that was not the end.
      if (!isFinal(detail.task.status) || lastSeq > seq) continue
      return formatNamedEvent('result', describeDetail(detail, { showsBody: false }), `${lastSeq}.1`)
    }
  }
}
