import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { fail, toErrorBody } from '../../core/errors.ts'
import type { Queue, Submitted } from '../../queue/queue.ts'
import type { ResponseEventLog } from '../../queue/responses/event-log.ts'
import { followEvents, isOverAt, toFollowed, type Followed } from '../../queue/responses/follow-events.ts'
import { findResponse } from '../../queue/responses/find-response.ts'
import { describeTaskResponse } from '../../queue/responses/task-response.ts'
import { bands } from '../../queue/task.ts'
import { formatPacked, packEvent } from '../../router/responses/events.ts'
import { ResponseBody } from '../../router/responses/schema.ts'
import type { Store } from '../../storage/store.ts'
import { EventStream } from '../event-stream.ts'
import { readIdempotencyKey } from '../idempotency-key.ts'
import { answerLive, type LiveParts } from '../live-response.ts'
import { explain } from '../reply.ts'
import { readResponseRequest, type AskedResponse } from '../response-body.ts'
import { parseResponseQuery } from '../response-query.ts'
import { ErrorReply } from '../schemas.ts'
import { SlowReaders } from '../slow-readers.ts'
import type { Query } from '../task-query.ts'
import { addResponseActions } from './response-actions.ts'

export type ResponseParts = LiveParts & {
  queue: Queue
  store: Store
  responseEvents: ResponseEventLog
}

export type OneResponse = { Params: { id: string } }

const promptCharsMax = 4096
const busy = ': too many events wait for slow readers; come back with starting_after\n\n'
/** How urgent a background response is beside other tasks. */
const bandOf = { priority: bands.high, default: bands.normal, flex: bands.low } as const
const farewell = ': the server is stopping; come back with starting_after\n\n'
const errors = { '4xx': ErrorReply, '5xx': ErrorReply }
const ResponseReply = Type.Object(
  { id: Type.String(), object: Type.Literal('response') },
  { additionalProperties: true },
)

/** OpenAI's responses over chat completions: made at once or as tasks, kept, shown, followed, called off. */
export function addResponseRoutes(app: FastifyInstance, parts: ResponseParts): void {
  const closing = new AbortController()
  const readers = new SlowReaders()
  app.addHook('preClose', (done) => {
    closing.abort()
    done()
  })

  const create = {
    tags: ['responses'],
    summary: 'Make a response',
    body: ResponseBody,
    response: { 200: ResponseReply, ...errors },
  }
  app.post('/v1/responses', { schema: create }, async (http, reply) => {
    const asked = await readResponseRequest(http, parts)
    const { record } = http
    record.model = parts.router.resolve(asked.request.model)
    record.stream = asked.request.stream
    if (parts.settings().logsPrompts)
      record.prompt = JSON.stringify(asked.fields['input']).slice(0, promptCharsMax)
    if (!asked.request.background) return answerLive(parts, { asked, http, reply })
    const { task, created } = await submit(http, asked)
    if (created && !asked.request.stream) return describeTaskResponse(task, asked.request, null)
    const detail = await parts.queue.get(asked.tenant, task.id)
    if (asked.request.stream) return follow({ http, reply }, toFollowed(detail), -1)
    return describeTaskResponse(detail.task, asked.request, detail.result)
  })

  const show = {
    tags: ['responses'],
    summary: 'A stored response, or the stream of one made in the background',
    querystring: Type.Object({
      stream: Type.Optional(
        Type.Boolean({ description: 'The events of a background response, kept and to come.' }),
      ),
      starting_after: Type.Optional(
        Type.Integer({ minimum: 0, description: 'The number of the last event seen.' }),
      ),
    }),
    response: { 200: ResponseReply, ...errors },
  }
  app.get<OneResponse>('/v1/responses/:id', { schema: show, exposeHeadRoute: false }, async (http, reply) => {
    const query = parseResponseQuery(http.query as Query)
    const { response, task } = await findResponse(parts, http.record.caller.tenant, http.params.id)
    if (!query.stream) return response
    if (!task?.request.background || !task.request.stream) {
      throw fail('invalid_request', {
        message: 'Only a response that was made with `background` and `stream` can be streamed again.',
        param: 'stream',
      })
    }
    http.record.stream = true
    http.record.model = task.detail.task.model
    return follow({ http, reply }, toFollowed(task.detail), query.startingAfter)
  })

  addResponseActions(app, parts)

  function submit(http: FastifyRequest, { tenant, fields, request }: AskedResponse): Promise<Submitted> {
    const { keyId } = http.record.caller
    return parts.queue.submit({
      tenant,
      ...(keyId === null ? {} : { keyId }),
      work: { endpoint: '/v1/responses', body: fields },
      band: bandOf[request.serviceTier ?? 'default'],
      runAtMs: null,
      deadlineMs: null,
      attemptsMax: null,
      metadata: {},
      webhook: null,
      idempotencyKey: readIdempotencyKey(http.headers),
      parent: null,
      position: null,
    })
  }

  /** Sends the events of a background response, those that are kept and those to come. */
  async function follow(
    { http, reply }: { http: FastifyRequest; reply: FastifyReply },
    followed: Followed,
    after: number,
  ): Promise<unknown> {
    if (closing.signal.aborted) throw fail('shutting_down', { retryAfterMs: 1_000 })
    const { store, responseEvents: log, clock, settings } = parts
    const kept = { store, log, clock }
    const isOver = await isOverAt(kept, followed, after)
    reply.hijack()
    // The task has it, and this may take hours.
    http.body = undefined
    http.record.ttftMs = clock.now() - http.record.startedAtMs
    const stream = new EventStream({ response: reply.raw, clock, stallMs: settings().stallMs })
    stream.open({ 'x-request-id': http.id }, ': events follow\n\n')
    const signal = AbortSignal.any([stream.signal, closing.signal])
    let number = after
    let last = ''
    try {
      if (!isOver) {
        for await (const { sequenceNumber, packed } of followEvents(kept, { followed, after }, signal)) {
          const text = formatPacked(packed, sequenceNumber)
          if (!(await readers.send(text.length, () => stream.send(text)))) {
            last = busy
            break
          }
          number = sequenceNumber
          if (signal.aborted) break
        }
      }
      await stream.end(closing.signal.aborted ? farewell : last)
    } catch (thrown) {
      const error = explain(thrown, http.record, parts.log)
      http.record.error = error.code
      const { code, message, param } = toErrorBody(error).error
      await stream.end(formatPacked(packEvent({ type: 'error', code, message, param }), number + 1))
    }
    return reply
  }
}
