import { ApiError, fail } from '../core/errors.ts'
import { compileParser, modelRoutes } from '../router/calls/completion-call.ts'
import { checkReferences, isWholeReference } from './references.ts'
import type { CallWork, TaskEndpoint, Work } from './task.ts'

type Body = CallWork['body']

/** Throws an ApiError for a body that the live route would refuse. */
type BodyCheck = (body: Body) => void
export type BodyChecks = Readonly<Record<TaskEndpoint, BodyCheck>>

/** The depth of a body is the business of whoever parsed it: it can't be deeper than what it came in. */
const limits = { jsonDepthMax: 1000 }
const nobody = { id: '', sessionKey: null, headers: [] }

const routeChecks = Object.fromEntries(
  modelRoutes.map((route): [string, BodyCheck] => {
    const parse = compileParser(route)
    return [`/v1${route.path}`, (body) => void parse(Buffer.from(JSON.stringify(body)), nobody, limits)]
  }),
) as Record<Exclude<TaskEndpoint, '/v1/responses'>, BodyCheck>

/** The checks of the live routes. `/v1/responses` asks for the two fields without which nothing can be done. */
export const bodyChecks: BodyChecks = {
  ...routeChecks,
  '/v1/responses': (body) => {
    for (const param of ['model', 'input']) {
      if ((body[param] ?? null) === null)
        throw fail('invalid_request', { message: `\`${param}\` is missing.`, param })
    }
    if (typeof body['model'] !== 'string' || body['model'] === '')
      throw fail('invalid_request', { message: '`model` must be a string.', param: 'model' })
  },
}

/**
 * Checks what a task is to do, as the live routes would, and names the fields from the task's own point of view
 * (`body.messages`, `steps[1].body.model`). Returns the model in whose line the task waits: the first step's.
 */
export function checkWork(work: Work, checks: BodyChecks, isServed: (model: string) => boolean): string {
  if (work.endpoint !== 'sequence') return checkCall(work, 'body', { checks, isServed })
  if (work.steps.length === 0) throw fail('invalid_request', { message: '`steps` is empty.', param: 'steps' })
  checkReferences(work.steps)
  const models = work.steps.map((step, index) =>
    checkCall(step, `steps[${index}].body`, { checks, isServed }),
  )
  return models[0] as string
}

type Rules = { checks: BodyChecks; isServed: (model: string) => boolean }

function checkCall({ endpoint, body }: CallWork, prefix: string, { checks, isServed }: Rules): string {
  if (body['stream'] === true && endpoint !== '/v1/responses') {
    throw fail('invalid_request', {
      message: `\`${prefix}.stream\` must be left out or false: the answer of a task is read whole, and its events are at GET /v1/tasks/{id}/events.`,
      param: `${prefix}.stream`,
    })
  }
  try {
    checks[endpoint](body)
  } catch (thrown) {
    if (!(thrown instanceof ApiError)) throw thrown
    // What stands there when the step runs is not known yet; it is checked again then.
    if (!isWholeReference(readParam(body, thrown.param))) throw prefixParam(thrown, prefix)
  }
  const { model } = body
  if (typeof model === 'string' && !isWholeReference(model) && isServed(model)) return model
  throw fail('model_not_found', {
    message: `The model \`${String(model).slice(0, 200)}\` is not served here; GET /v1/models lists those that are.`,
    param: `${prefix}.model`,
  })
}

/** The error with the field as the task names it, such as `steps[1].body.model` for `model`. */
export function prefixParam(error: ApiError, prefix: string): ApiError {
  if (error.param === null) return error
  const param = error.param === 'body' ? prefix : `${prefix}.${error.param}`
  return fail(error.code, { message: error.message.replace(`\`${error.param}\``, `\`${param}\``), param })
}

function readParam(body: Body, param: string | null): unknown {
  let value: unknown = param === null ? undefined : body
  for (const key of param?.split(/[.[\]]+/).filter(Boolean) ?? []) {
    value = (value as Record<string, unknown> | null | undefined)?.[key]
  }
  return value
}
