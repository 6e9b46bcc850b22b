import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Pool } from 'undici'
import { announce } from '../child.ts'

/**
 * The least that a proxy on Node can do: node:http in front, undici's `dispatch` behind, bytes in both directions
 * and nothing else. No parsing, no routing, no log, no metrics, no time limits.
 */

const pool = new Pool(process.argv[2] as string, { connections: 4096, keepAliveTimeout: 300_000 })

const ownHeaders = new Set(['host', 'connection', 'keep-alive', 'transfer-encoding', 'content-length'])

function copyHeaders(raw: readonly string[]): string[] {
  const headers: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    if (!ownHeaders.has((raw[i] as string).toLowerCase()))
      headers.push(raw[i] as string, raw[i + 1] as string)
  }
  return headers
}

function relay(request: IncomingMessage, response: ServerResponse, body: Buffer | null): void {
  const method = request.method ?? 'GET'
  pool.dispatch(
    { method, path: request.url ?? '/', headers: copyHeaders(request.rawHeaders), body },
    {
      onRequestStart() {},
      onResponseStart(_controller, status, headers) {
        delete headers['connection']
        delete headers['keep-alive']
        delete headers['transfer-encoding']
        response.writeHead(status, headers)
      },
      onResponseData(controller, chunk) {
        if (response.write(chunk)) return
        controller.pause()
        response.once('drain', () => controller.resume())
      },
      onResponseEnd() {
        response.end()
      },
      onResponseError() {
        response.destroy()
      },
    },
  )
}

const server = createServer({ keepAliveTimeout: 300_000 }, (request, response) => {
  const parts: Buffer[] = []
  request.on('data', (part: Buffer) => parts.push(part))
  request.on('end', () => {
    relay(
      request,
      response,
      parts.length === 0 ? null : parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts),
    )
  })
})
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () =>
  announce((server.address() as AddressInfo).port),
)
