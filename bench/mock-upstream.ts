import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { announce } from './child.ts'
import { jsonResponse, makeStreamEvents, modelName } from './payloads.ts'

/** A model server that thinks of nothing: it answers at once, as JSON or as a paced stream. */

const answerBytes = Buffer.from(jsonResponse)
const models = JSON.stringify({
  object: 'list',
  data: [{ id: modelName, object: 'model', created: 0, owned_by: 'bench' }],
})

type StreamRequest = {
  max_tokens: number
  mock: { intervalMs: number }
  stream_options?: { include_usage?: boolean }
}

const eventsOf = new Map<string, Buffer[]>()

function findEvents(chunks: number, usage: boolean): Buffer[] {
  const key = `${chunks} ${usage}`
  const events = eventsOf.get(key) ?? makeStreamEvents({ chunks, usage })
  eventsOf.set(key, events)
  return events
}

function answerJson(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': answerBytes.length })
  response.end(answerBytes)
}

/** One write an event, and never two in one turn of the loop, so that each is a packet of its own. */
function answerStream(response: ServerResponse, request: StreamRequest): void {
  const events = findEvents(request.max_tokens, request.stream_options?.include_usage === true)
  let next = 0
  const write = () => {
    if (response.destroyed) return
    const event = events[next]
    next += 1
    if (next === events.length) response.end(event)
    else response.write(event)
    if (next === events.length) return
    if (request.mock.intervalMs > 0 && next < request.max_tokens) setTimeout(write, request.mock.intervalMs)
    else setImmediate(write)
  }
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  write()
}

function handle(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === 'GET') {
    response.writeHead(200, { 'content-type': 'application/json' }).end(models)
    return
  }
  const parts: Buffer[] = []
  request.on('data', (part: Buffer) => parts.push(part))
  request.on('end', () => {
    const body = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts)
    if (body.includes('"stream":true')) answerStream(response, JSON.parse(body.toString()) as StreamRequest)
    else answerJson(response)
  })
}

const server = createServer({ keepAliveTimeout: 300_000 }, handle)
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () =>
  announce((server.address() as AddressInfo).port),
)
