import { Type, type TSchema } from 'typebox'
import { batchTransitions } from '../queue/batches/batch.ts'
import { keepSeconds } from '../queue/batches/batch-request.ts'
import { bands, taskEndpoints } from '../queue/task.ts'
import { ErrorReply } from './schemas.ts'

/** What the document at /openapi.json says of batches. The reading itself is done where a message can name the way out. */

const nullable = (schema: TSchema) => Type.Union([schema, Type.Null()])
const moment = nullable(Type.Integer({ description: 'Unix seconds' }))
const Endpoint = Type.Enum([...taskEndpoints], { description: 'The route that every line asks.' })
const Metadata = Type.Record(Type.String(), Type.String(), {
  description: 'Up to 16 pairs of your own. `priority` is read as the priority where the body has none.',
})
const Priority = Type.Union([Type.Enum(Object.keys(bands)), Type.Integer({ minimum: 0, maximum: 100 })], {
  default: 'batch',
  description: 'The priority of the tasks, as in `POST /v1/tasks`.',
})

const BatchCreation = Type.Object({
  input_file_id: Type.String({
    description: 'A file uploaded with the purpose `batch`: up to 50,000 lines of JSON.',
  }),
  endpoint: Endpoint,
  completion_window: Type.String({
    description: 'From 1m to 30d, such as `24h`: what is not done by then expires.',
  }),
  metadata: Type.Optional(Metadata),
  priority: Type.Optional(Priority),
  output_expires_after: Type.Optional(
    Type.Object({
      anchor: Type.Literal('created_at'),
      seconds: Type.Integer({ minimum: keepSeconds.min, maximum: keepSeconds.max }),
    }),
  ),
})

const Batch = Type.Object({
  id: Type.String(),
  object: Type.Literal('batch'),
  endpoint: Endpoint,
  status: Type.Enum(Object.keys(batchTransitions)),
  input_file_id: Type.String(),
  output_file_id: nullable(Type.String()),
  error_file_id: nullable(Type.String()),
  errors: nullable(
    Type.Object({
      object: Type.Literal('list'),
      data: Type.Array(
        Type.Object({
          code: Type.String(),
          message: Type.String(),
          param: nullable(Type.String()),
          line: nullable(Type.Integer()),
        }),
      ),
    }),
  ),
  completion_window: Type.String(),
  created_at: Type.Integer(),
  expires_at: Type.Integer(),
  in_progress_at: moment,
  finalizing_at: moment,
  completed_at: moment,
  failed_at: moment,
  expired_at: moment,
  cancelling_at: moment,
  cancelled_at: moment,
  request_counts: Type.Object({ total: Type.Integer(), completed: Type.Integer(), failed: Type.Integer() }),
  usage: nullable(Type.Unknown()),
  metadata: nullable(Metadata),
  priority: Priority,
})

const tags = ['batches']
const errors = { '4xx': ErrorReply, '5xx': ErrorReply }
const one = (summary: string) => ({
  tags,
  summary,
  params: Type.Object({ id: Type.String() }),
  response: { 200: Batch, ...errors },
})

export const createSchema = {
  tags,
  summary: 'Run the lines of a file as a batch',
  body: BatchCreation,
  response: { 200: Batch, ...errors },
}
export const listSchema = {
  tags,
  summary: 'List batches, newest first',
  querystring: Type.Object({
    after: Type.Optional(Type.String({ description: 'The `last_id` of the page before.' })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
  }),
  response: {
    200: Type.Object({ object: Type.Literal('list'), data: Type.Array(Batch), has_more: Type.Boolean() }),
    ...errors,
  },
}
export const showSchema = one('One batch: its state, its counts, its files')
export const cancelSchema = one('Cancel a batch: what is done by then is kept')
