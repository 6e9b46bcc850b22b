import { Readable } from 'node:stream'
import multipart from '@fastify/multipart'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { keepSeconds } from '../../queue/batches/batch-request.ts'
import { uploadPurposes, type FileStore, type StoredFile } from '../../queue/batches/file-store.ts'
import { receiveFile } from '../file-upload.ts'
import { ignoreBodies } from '../ignore-bodies.ts'
import { parsePage, toPage } from '../page-query.ts'
import type { ApiParts } from '../parts.ts'
import { explain } from '../reply.ts'
import { ErrorReply } from '../schemas.ts'
import { refuseOthers, type Query } from '../task-query.ts'

export type FileParts = Pick<ApiParts, 'settings' | 'log'> & { files: FileStore }
type OneFile = { Params: { id: string } }

const File = Type.Object({
  id: Type.String(),
  object: Type.Literal('file'),
  bytes: Type.Integer(),
  created_at: Type.Integer({ description: 'Unix seconds' }),
  expires_at: Type.Integer({ description: 'Unix seconds' }),
  filename: Type.String(),
  purpose: Type.String(),
  status: Type.Literal('processed'),
})
const Form = Type.Object({
  file: Type.String({ format: 'binary', description: 'One file.' }),
  purpose: Type.Enum([...uploadPurposes]),
  'expires_after[anchor]': Type.Optional(Type.Literal('created_at')),
  'expires_after[seconds]': Type.Optional(
    Type.Integer({ minimum: keepSeconds.min, maximum: keepSeconds.max, description: 'How long it is kept.' }),
  ),
})
const errors = { '4xx': ErrorReply, '5xx': ErrorReply }
const tags = ['files']
const params = Type.Object({ id: Type.String() })
const Page = Type.Object({
  object: Type.Literal('list'),
  data: Type.Array(File),
  first_id: Type.Union([Type.String(), Type.Null()]),
  last_id: Type.Union([Type.String(), Type.Null()]),
  has_more: Type.Boolean(),
})

/** The files of a tenant: upload, list, show, download, remove. */
export function addFileRoutes(app: FastifyInstance, parts: FileParts): void {
  const { files } = parts
  app.register(async (scope) => {
    await scope.register(multipart)
    // A body of another kind is told so by the route, and not read.
    scope.removeContentTypeParser('application/json')
    scope.addContentTypeParser('*', (_request, _body, done) => done(null))
    const schema = {
      tags,
      summary: 'Upload a file: multipart/form-data with `file`, `purpose` and, if wanted, `expires_after`',
      consumes: ['multipart/form-data'],
      body: Form,
      response: { 200: File, ...errors },
    }
    scope.post('/v1/files', { schema }, (request) => {
      refuseOthers(request.query as Query, [])
      return receiveFile(request, files, parts.log).then(describeFile)
    })
  })

  const list = {
    tags,
    summary: 'List files, newest first',
    querystring: Type.Object({
      purpose: Type.Optional(Type.String()),
      after: Type.Optional(Type.String({ description: 'The `last_id` of the page before.' })),
      order: Type.Optional(Type.Enum(['desc', 'asc'])),
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, default: 1_000 })),
    }),
    response: { 200: Page, ...errors },
  }
  const rules = {
    known: ['purpose', 'after', 'order', 'limit'],
    limitDefault: 1_000,
    limitMax: 10_000,
  } as const
  app.get('/v1/files', { schema: list }, (request) =>
    files
      .list({ ...parsePage(request.query as Query, rules), tenant: request.record.caller.tenant })
      .then((found) => toPage(found.files.map(describeFile), found.hasMore)),
  )

  const one = { tags, summary: 'One file', params, response: { 200: File, ...errors } }
  app.get<OneFile>('/v1/files/:id', { schema: one }, (request) =>
    files.get(request.record.caller.tenant, request.params.id).then(describeFile),
  )

  const content = {
    tags,
    summary: 'The content of a file',
    params,
    produces: ['application/octet-stream'],
    response: errors,
  }
  app.get<OneFile>('/v1/files/:id/content', { schema: content }, async (request, reply) => {
    const file = await files.get(request.record.caller.tenant, request.params.id)
    const pieces = files.read(file)
    // Until it is there, there may be an error to answer with.
    const first = await pieces.next()
    const content = goOn(first, pieces, { request, reply, log: parts.log })
    return send(file, content, reply, parts.settings().stallMs)
  })

  const Removed = Type.Object({ id: Type.String(), object: Type.Literal('file'), deleted: Type.Boolean() })
  const remove = { tags, summary: 'Remove a file', params, response: { 200: Removed, ...errors } }
  app.register((scope, _options, done) => {
    ignoreBodies(scope)
    scope.delete<OneFile>('/v1/files/:id', { schema: remove }, (request) => {
      const { id } = request.params
      return files
        .remove(request.record.caller.tenant, id)
        .then(() => ({ id, object: 'file', deleted: true }))
    })
    done()
  })
}

/**
 * The pieces of a file, one read already. Of one that breaks off under way the client sees no more than a broken
 * connection: the reason is noted here, so that the client is not blamed for it.
 */
async function* goOn(
  first: IteratorResult<Buffer, void>,
  pieces: AsyncIterable<Buffer>,
  { request, reply, log }: { request: FastifyRequest; reply: FastifyReply; log: ApiParts['log'] },
): AsyncGenerator<Buffer> {
  try {
    if (!first.done) yield first.value
    yield* pieces
  } catch (thrown) {
    if (!reply.raw.destroyed) request.record.error = explain(thrown, request.record, log).code
    throw thrown
  }
}

/** As fast as the client reads, a few pieces at a time; one that reads nothing is let go. */
function send(
  file: StoredFile,
  content: AsyncIterable<Buffer>,
  reply: FastifyReply,
  stallMs: number,
): FastifyReply {
  reply.raw.setTimeout(stallMs, () => reply.raw.destroy())
  return reply
    .header('content-type', 'application/octet-stream')
    .header('content-length', file.bytes)
    .header(
      'content-disposition',
      `attachment; filename*=UTF-8''${encodeURIComponent(file.filename).replaceAll("'", '%27')}`,
    )
    .header('x-content-type-options', 'nosniff')
    .send(Readable.from(content, { objectMode: false }))
}

const toSeconds = (ms: number): number => Math.floor(ms / 1000)

const describeFile = (file: StoredFile) => ({
  id: file.id,
  object: 'file',
  bytes: file.bytes,
  created_at: toSeconds(file.createdAtMs),
  expires_at: toSeconds(file.expiresAtMs),
  filename: file.filename,
  purpose: file.purpose,
  status: 'processed',
})
