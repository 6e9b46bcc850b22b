import { Type, type TSchema } from 'typebox'
import { bands, taskEndpoints } from '../queue/task.ts'
import { taskStatuses } from '../storage/task-states.ts'
import { ErrorReply } from './schemas.ts'

/** What the document at /openapi.json says of tasks. The reading itself is done where a message can name the way out. */

const nullable = (schema: TSchema, description?: string) =>
  Type.Union([schema, Type.Null()], description === undefined ? {} : { description })

const seconds = 'Unix seconds'
const time = (description: string) =>
  Type.Union([Type.Number(), Type.String({ format: 'date-time' })], {
    description: `${description} ${seconds}, or ISO 8601 with a zone.`,
  })

const Endpoint = Type.Enum([...taskEndpoints], { description: 'The route that the body is meant for.' })
const Body = Type.Object(
  {},
  { additionalProperties: true, description: 'What one would send to that route.' },
)
const Metadata = Type.Record(Type.String(), Type.String(), {
  description: 'Up to 16 pairs of your own: keys of 64, values of 512 characters.',
})
const Priority = Type.Union([Type.Enum(Object.keys(bands)), Type.Integer({ minimum: 0, maximum: 100 })], {
  description: '`urgent` (0), `high` (25), `normal` (50), `low` (75), `batch` (100), or a number between.',
})
const Status = Type.Enum([...taskStatuses])

const TaskSubmission = Type.Object({
  endpoint: Type.Optional(Endpoint),
  body: Type.Optional(Body),
  steps: Type.Optional(
    Type.Array(Type.Object({ name: Type.String(), endpoint: Endpoint, body: Body }), {
      description:
        'In place of endpoint and body: calls in a row. `{{steps.NAME.PATH}}` is an earlier result.',
    }),
  ),
  priority: Type.Optional(Priority),
  run_at: Type.Optional(time('Not before this time.')),
  deadline: Type.Optional(time('Expires when it has not ended by then.')),
  max_attempts: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
  metadata: Type.Optional(Metadata),
  webhook: Type.Optional(Type.Object({ url: Type.String({ format: 'uri' }) })),
})

const Failure = nullable(Type.Object({ code: Type.String(), message: Type.String() }), 'Of the last attempt.')
const Usage = nullable(
  Type.Object({
    prompt_tokens: Type.Integer(),
    completion_tokens: Type.Integer(),
    total_tokens: Type.Integer(),
    prompt_tokens_details: Type.Object({ cached_tokens: Type.Integer() }),
  }),
)

const moment = nullable(Type.Integer({ description: seconds }))
const taskFields = {
  id: Type.String(),
  object: Type.Literal('task'),
  status: Status,
  endpoint: Type.String({ description: 'A route, or `sequence`.' }),
  model: Type.String(),
  priority: Priority,
  attempts: Type.Integer({ description: 'Attempts begun.' }),
  max_attempts: Type.Integer(),
  created_at: Type.Integer({ description: seconds }),
  run_at: moment,
  deadline: moment,
  started_at: moment,
  finished_at: moment,
  cancel_requested: Type.Boolean({ description: 'It still runs, and will be stopped.' }),
  batch: nullable(Type.String(), 'The batch that it is a line of.'),
  metadata: Metadata,
  error: Failure,
  usage: Usage,
}
const Task = Type.Object(taskFields)

const TaskDetails = Type.Object({
  ...taskFields,
  result: Type.Unknown({
    description: 'The body that the route would have answered; null while there is none.',
  }),
  steps: Type.Optional(
    Type.Array(
      Type.Object({
        name: Type.String(),
        endpoint: Endpoint,
        attempt: nullable(Type.Integer()),
        result: Type.Unknown({ description: 'Null while the step has none.' }),
        body: Type.Optional(Body),
      }),
    ),
  ),
  history: Type.Array(
    Type.Object({
      seq: Type.Integer(),
      at: Type.Number({ description: `${seconds}, to the millisecond` }),
      status: Status,
      attempt: Type.Integer(),
      error: Failure,
      instance: nullable(Type.String()),
    }),
  ),
  body: Type.Optional(Body),
  webhook: Type.Optional(nullable(Type.Object({ url: Type.String() }))),
})

const TaskPage = Type.Object({
  object: Type.Literal('list'),
  data: Type.Array(Task),
  first_id: nullable(Type.String()),
  last_id: nullable(Type.String()),
  has_more: Type.Boolean(),
  counts: Type.Record(Type.String(), Type.Integer(), {
    description: 'All tasks of the tenant by status; with `batch`, those of the batch.',
  }),
})

const tags = ['tasks']
const errors = { '4xx': ErrorReply, '5xx': ErrorReply }
const params = Type.Object({ id: Type.String() })
const one = (summary: string) => ({ tags, summary, params, response: { 200: Task, ...errors } })

export const submitSchema = {
  tags,
  summary: 'Submit a task',
  headers: Type.Object({
    'idempotency-key': Type.Optional(
      Type.String({
        description: '1 to 255 printable characters: the same key and body give the same task.',
      }),
    ),
  }),
  body: TaskSubmission,
  response: { 200: Task, 202: Task, ...errors },
}

export const listSchema = {
  tags,
  summary: 'List tasks, newest first',
  querystring: Type.Object({
    status: Type.Optional(Type.String({ description: 'One or more, with commas or given again.' })),
    priority: Type.Optional(Priority),
    model: Type.Optional(Type.String()),
    created_after: Type.Optional(time('At or after this time.')),
    created_before: Type.Optional(time('Before this time.')),
    'metadata[KEY]': Type.Optional(
      Type.String({ description: 'Tasks with this pair; can be given for several.' }),
    ),
    batch: Type.Optional(Type.String({ description: 'Lines of this batch; `none`: tasks of no batch.' })),
    after: Type.Optional(Type.String({ description: 'The `last_id` of the page before.' })),
    order: Type.Optional(Type.Enum(['desc', 'asc'])),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
  }),
  response: { 200: TaskPage, ...errors },
}

export const showSchema = {
  ...one('One task, with its history and its result'),
  querystring: Type.Object({
    include: Type.Optional(Type.Enum(['body'], { description: 'Show what was submitted, too.' })),
  }),
  response: { 200: TaskDetails, ...errors },
}

export const eventsSchema = {
  tags,
  summary: 'Follow a task: its states, its progress, its result, as server-sent events',
  params,
  headers: Type.Object({
    'last-event-id': Type.Optional(Type.String({ description: 'Go on after this event.' })),
  }),
  querystring: Type.Object({
    after: Type.Optional(Type.String({ description: 'The same, where a header can not be set.' })),
  }),
  produces: ['text/event-stream'],
  response: { ...errors },
}

export const cancelSchema = one('Cancel a task: at once while it waits, within a second while it runs')
export const requeueSchema = one('Run a task again that is dead, cancelled or expired, with fresh attempts')
export const removeSchema = {
  tags,
  summary: 'Remove a task that has ended, with its result',
  params,
  response: { 204: Type.Null(), ...errors },
}
