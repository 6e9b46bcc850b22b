import type { Clock } from '../core/clock.ts'
import { fail, toApiError, type ApiError } from '../core/errors.ts'
import type { Router } from '../router/router.ts'
import { ChatCall } from '../router/responses/chat-call.ts'
import { toChatBody } from '../router/responses/chat-body.ts'
import { ChatSink } from '../router/responses/chat-sink.ts'
import { isLastEvent, typeOfEvent } from '../router/responses/events.ts'
import type { Item } from '../router/responses/items.ts'
import { parseResponsesBody, type ResponsesRequest } from '../router/responses/request.ts'
import { toResponse, type ResponseIdentity, type ResponseObject } from '../router/responses/response.ts'
import { ResponseStream, toChunk, type ResponseEvent } from '../router/responses/stream.ts'
import { makeTaskId } from '../storage/task-id.ts'
import { AnswerRefused } from './refused.ts'
import type { EventWriter, ResponseEventLog } from './responses/event-log.ts'
import type { StoredResponses } from './responses/stored-responses.ts'
import { toResponseId } from './responses/task-response.ts'
import type { Executor, Job, JobContext, JobResult } from './runner.ts'

type ExecutorParts = {
  router: Pick<Router, 'run'>
  responses: StoredResponses
  log: ResponseEventLog
  clock: Clock
}

type Attempt = {
  request: ResponsesRequest
  identity: ResponseIdentity
  context: readonly Item[]
  call: ChatCall
}

/**
 * Runs a task of `/v1/responses`; its result is the response. One that is streamed writes its events as they come.
 *
 * What becomes of a second attempt at a streamed response depends on what the first one has left:
 * - nothing that a reader could have used: it begins anew;
 * - a part of the text: it ends in `response.failed`, and the task with stream_broken. Another text behind the first
 *   half of this one would be neither;
 * - the stored response: that is the result, without another call;
 * - `response.failed`, and the task was queued again by hand: the response is made whole, without a stream.
 */
export function makeResponseExecutor(parts: ExecutorParts): Executor {
  return async (job, work, context) => {
    const request = parseResponsesBody(work.body)
    const identity = chooseIdentity(job, parts.clock)
    const { tenant } = job.task
    const isFirst = job.task.attempt === 1
    const done = isFirst ? null : await parts.responses.find(tenant, identity.id)
    if (done && isWhole(done.response)) return takeOver(parts, job, request, done.response)
    const left = isFirst || !isStreamed(request, job) ? null : await parts.log.last(identity.id)
    const previous = await parts.responses.conversation(tenant, request.previousResponseId)
    const streams = isStreamed(request, job) && !isEnded(left)
    const attempt: Attempt = {
      request,
      identity,
      context: previous,
      call: new ChatCall({
        id: job.task.id,
        body: toChatBody(request, previous, { stream: streams }),
        sessionKey: request.user ?? request.promptCacheKey,
        headers: [],
      }),
    }
    if (!streams) return runWhole(parts, job, attempt, context)
    return runStreamed(parts, job, attempt, context, left?.events ?? 0)
  }
}

const isStreamed = (request: ResponsesRequest, job: Job) =>
  request.stream && request.background && job.task.endpoint === '/v1/responses'

const isWhole = ({ status }: ResponseObject) => status === 'completed' || status === 'incomplete'

const isEnded = (left: { packed: string | null } | null) =>
  left !== null && left.packed !== null && isLastEvent(typeOfEvent(left.packed))

/** An earlier attempt had everything but its task settled: its last words may be missing in the stream. */
async function takeOver(
  { log }: ExecutorParts,
  job: Job,
  request: ResponsesRequest,
  response: ResponseObject,
): Promise<JobResult> {
  if (isStreamed(request, job) && !isEnded(await log.last(response.id))) {
    const writer = await log.open(job.task.tenant, response.id)
    writer.write([{ type: `response.${response.status}`, response }])
    await writer.flush()
  }
  return toResult(response, null)
}

/** The steps of a sequence are answers of their own, and a task has but one name to give. */
function chooseIdentity({ task }: Job, clock: Clock): ResponseIdentity {
  if (task.endpoint === '/v1/responses') return { id: toResponseId(task.id), createdAtMs: task.createdAtMs }
  return { id: makeTaskId('resp', clock.wallMs()), createdAtMs: clock.wallMs() }
}

async function runWhole(
  parts: ExecutorParts,
  job: Job,
  attempt: Attempt,
  context: JobContext,
): Promise<JobResult> {
  const cut = new AbortController()
  const sink = new ChatSink({ onFailure: () => cut.abort() })
  await ask(parts, attempt, sink, AbortSignal.any([context.signal, cut.signal]))
  const outcome = sink.read()
  if (outcome.kind === 'refused') throw new AnswerRefused(outcome.status, outcome.body)
  if (outcome.kind === 'streamed') throw fail('upstream_invalid')
  const { request, identity } = attempt
  const response = toResponse(request, identity, { chat: outcome.chat, completedAtMs: parts.clock.wallMs() })
  return finish(parts, job, attempt, response, sink.answered?.instance.id ?? null)
}

async function runStreamed(
  parts: ExecutorParts,
  job: Job,
  attempt: Attempt,
  context: JobContext,
  eventsBefore: number,
): Promise<JobResult> {
  const stream = new ResponseStream(attempt)
  const writer = await parts.log.open(job.task.tenant, attempt.identity.id, context.signal)
  // One that has only begun has told nobody anything yet.
  if (eventsBefore > 1) throw await breakOff(writer, stream, brokeBefore(job))
  const [, begun] = stream.start()
  if (eventsBefore === 0 && begun) writer.write([begun])
  let tokens = 0
  let hasOutput = false
  const cut = new AbortController()
  const sink = new ChatSink({
    onFailure: () => cut.abort(),
    onChunks: (chunks, resume) => {
      const events = chunks.flatMap((chunk) => stream.push(chunk))
      if (events.length === 0) return true
      hasOutput = true
      tokens += chunks.length
      context.noteTokens(tokens)
      // A storage that fails ends the call now, and not when the model has said everything.
      if (writer.error !== null) throw writer.error as Error
      return writer.write(events, resume)
    },
  })
  let last: ResponseEvent[]
  try {
    await ask(parts, attempt, sink, AbortSignal.any([context.signal, cut.signal]))
    const outcome = sink.read()
    if (outcome.kind === 'refused') throw new AnswerRefused(outcome.status, outcome.body)
    const late = outcome.kind === 'whole' ? stream.push(toChunk(outcome.chat)) : []
    last = [...late, ...stream.finish(parts.clock.wallMs())]
  } catch (thrown) {
    // What was written must be there when the task is known to have ended.
    await writer.flush().catch(() => {})
    if (context.signal.aborted || !hasOutput) throw thrown
    const { code, message } = toApiError(thrown)
    throw await breakOff(
      writer,
      stream,
      fail('stream_broken', { message: `${message} (${code})`, cause: thrown }),
    )
  }
  const result = await finish(
    parts,
    job,
    attempt,
    stream.response as ResponseObject,
    sink.answered?.instance.id ?? null,
  )
  writer.write(last)
  await writer.flush()
  return result
}

async function ask(
  { router }: ExecutorParts,
  { call }: Attempt,
  sink: ChatSink,
  signal: AbortSignal,
): Promise<void> {
  try {
    await router.run(call, sink, signal)
  } catch (thrown) {
    sink.check()
    throw thrown
  }
}

const brokeBefore = ({ task }: Job): ApiError =>
  fail('stream_broken', {
    message: task.error
      ? `${task.error.message} (${task.error.code})`
      : 'The server stopped in the middle of the answer.',
  })

/** Ends the stream in the sight of its readers; returns the error for the task. */
async function breakOff(writer: EventWriter, stream: ResponseStream, error: ApiError): Promise<ApiError> {
  writer.write(stream.fail(error))
  // Readers learn of the task's end in any case.
  await writer.flush().catch(() => {})
  return error
}

async function finish(
  { responses }: ExecutorParts,
  { task }: Job,
  { request, context }: Attempt,
  response: ResponseObject,
  instance: string | null,
): Promise<JobResult> {
  if (request.store) await responses.save(task.tenant, { response, context, input: request.input })
  return toResult(response, instance)
}

function toResult(response: ResponseObject, instance: string | null): JobResult {
  const { usage } = response
  return {
    result: Buffer.from(JSON.stringify(response)),
    usage: usage && {
      promptTokens: usage.input_tokens,
      completionTokens: usage.output_tokens,
      cachedTokens: usage.input_tokens_details.cached_tokens,
    },
    instance,
  }
}
