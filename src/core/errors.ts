/**
 * Every error that a caller can meet, in one table. `type` and `code` are what OpenAI's clients expect;
 * `retryable` says whether the same request may succeed later.
 */
export const errorTable = {
  invalid_request: { status: 400, type: 'invalid_request_error', retryable: false, meaning: 'A field of the request is missing, of the wrong type or out of range; `param` names it.' },
  invalid_json: { status: 400, type: 'invalid_request_error', retryable: false, meaning: 'The body is not JSON, or is nested deeper than the limit.' },
  unsupported_parameter: { status: 400, type: 'invalid_request_error', retryable: false, meaning: 'The model instance cannot honour this parameter, and will not ignore it in silence.' },
  context_length_exceeded: { status: 400, type: 'invalid_request_error', retryable: false, meaning: 'The prompt does not fit into the context of the model.' },
  unauthorized: { status: 401, type: 'authentication_error', retryable: false, meaning: 'Credentials are missing, wrong or expired.' },
  forbidden: { status: 403, type: 'permission_error', retryable: false, meaning: 'The credentials are valid but lack the permission named.' },
  not_found: { status: 404, type: 'invalid_request_error', retryable: false, meaning: 'No such route.' },
  model_not_found: { status: 404, type: 'invalid_request_error', retryable: false, meaning: 'No model of this name is served; GET /v1/models lists those that are.' },
  tenant_not_found: { status: 404, type: 'invalid_request_error', retryable: false, meaning: 'There is no such tenant.' },
  key_not_found: { status: 404, type: 'invalid_request_error', retryable: false, meaning: 'There is no such key.' },
  task_not_found: { status: 404, type: 'invalid_request_error', retryable: false, meaning: 'There is no such task.' },
  file_not_found: { status: 404, type: 'invalid_request_error', retryable: false, meaning: 'There is no such file, or it has expired.' },
  batch_not_found: { status: 404, type: 'invalid_request_error', retryable: false, meaning: 'There is no such batch.' },
  response_not_found: { status: 404, type: 'invalid_request_error', retryable: false, meaning: 'There is no such response, or it is kept no longer.' },
  method_not_allowed: { status: 405, type: 'invalid_request_error', retryable: false, meaning: 'The route exists, but not for this method; `Allow` lists those it has.' },
  request_timeout: { status: 408, type: 'invalid_request_error', retryable: true, meaning: 'The request did not arrive whole in time.' },
  conflict: { status: 409, type: 'invalid_request_error', retryable: false, meaning: 'The object is in a state that does not allow this.' },
  idempotency_conflict: { status: 409, type: 'invalid_request_error', retryable: false, meaning: 'The idempotency key was used before with another body.' },
  body_too_large: { status: 413, type: 'invalid_request_error', retryable: false, meaning: 'The body is larger than the limit.' },
  files_full: { status: 413, type: 'invalid_request_error', retryable: false, meaning: 'The tenant keeps as many files, or bytes of them, as are allowed.' },
  unsupported_media_type: { status: 415, type: 'invalid_request_error', retryable: false, meaning: 'The body must be sent as application/json.' },
  headers_too_large: { status: 431, type: 'invalid_request_error', retryable: false, meaning: 'The request headers are larger than the limit.' },
  rate_limited: { status: 429, type: 'rate_limit_error', retryable: true, meaning: 'A limit is used up; `Retry-After` says when to come again.' },
  concurrency_limited: { status: 429, type: 'rate_limit_error', retryable: true, meaning: 'As many requests as are allowed at once are under way; come again when one has ended.' },
  budget_exceeded: { status: 429, type: 'rate_limit_error', retryable: false, meaning: 'The budget of the day or of the month is spent; `Retry-After` says when the next begins.' },
  queue_full: { status: 429, type: 'rate_limit_error', retryable: true, meaning: 'As many tasks, or bytes of them, wait as are allowed; `Retry-After` says when to come again.' },
  client_closed: { status: 499, type: 'invalid_request_error', retryable: true, meaning: 'The client hung up before the answer was complete. Seen in logs and metrics only.' },
  internal: { status: 500, type: 'server_error', retryable: true, meaning: 'A fault of this server. The log holds the details under the request id.' },
  upstream_failed: { status: 502, type: 'server_error', retryable: true, meaning: 'The model instance failed or broke off, and no other could take over.' },
  upstream_invalid: { status: 502, type: 'server_error', retryable: true, meaning: 'The model instance answered something that is not an answer.' },
  stream_broken: { status: 502, type: 'server_error', retryable: false, meaning: 'A background response broke off after a part of it had been streamed; it is not begun again, for the second text would be another one.' },
  upstream_unauthorized: { status: 502, type: 'server_error', retryable: false, meaning: 'The model instance refused the key that this server holds for it.' },
  engine_overloaded: { status: 503, type: 'server_error', retryable: true, meaning: 'The waiting line of the model instance is full.' },
  overloaded: { status: 503, type: 'server_error', retryable: true, meaning: 'The fleet is busy, and requests of this class wait no longer or not at all.' },
  deadline_unreachable: { status: 503, type: 'server_error', retryable: true, meaning: 'The answer would not have begun before the time limit of the client.' },
  circuit_open: { status: 503, type: 'server_error', retryable: true, meaning: 'Nearly all recent calls of the model have failed: it is left alone for a moment.' },
  no_instance: { status: 503, type: 'server_error', retryable: true, meaning: 'The model is known, but none of its instances is available now.' },
  storage_unavailable: { status: 503, type: 'server_error', retryable: true, meaning: 'The storage can\'t be used now: the disk is full or the database is away. Nothing was taken over.' },
  issuer_unavailable: { status: 503, type: 'server_error', retryable: true, meaning: 'The keys of the issuer of the token can\'t be read now.' },
  shutting_down: { status: 503, type: 'server_error', retryable: true, meaning: 'The server is stopping and takes no new requests.' },
  upstream_timeout: { status: 504, type: 'server_error', retryable: true, meaning: 'The model instance did not answer in time.' },
} as const satisfies Record<string, ErrorRow> // prettier-ignore

type ErrorRow = {
  status: number
  type:
    | 'invalid_request_error'
    | 'authentication_error'
    | 'permission_error'
    | 'rate_limit_error'
    | 'server_error'
  retryable: boolean
  meaning: string
}

export type ErrorCode = keyof typeof errorTable

type ErrorDetail = {
  /** What happened, in a sentence that names the field, the value and the way out. */
  message?: string
  /** The request field at fault, such as `messages[0].role`. */
  param?: string
  /** How long the caller should wait before trying again. */
  retryAfterMs?: number
  /** More headers of the answer, with lower-case names. */
  headers?: Readonly<Record<string, string>>
  cause?: unknown
}

/**
 * An error that a caller is meant to see. Anything else that is thrown becomes `internal`, which alone is logged with the
 * place it came from: for the others, which come in floods, noting that would take ten times as long as all the rest.
 */
export class ApiError extends Error {
  readonly code: ErrorCode
  readonly status: number
  readonly param: string | null
  readonly retryAfterMs: number | null
  readonly headers: Readonly<Record<string, string>> | null

  constructor(code: ErrorCode, detail: ErrorDetail = {}) {
    const { stackTraceLimit } = Error
    if (code !== 'internal') Error.stackTraceLimit = 0
    super(
      detail.message ?? errorTable[code].meaning,
      detail.cause === undefined ? {} : { cause: detail.cause },
    )
    Error.stackTraceLimit = stackTraceLimit
    this.name = 'ApiError'
    this.code = code
    this.status = errorTable[code].status
    this.param = detail.param ?? null
    this.retryAfterMs = detail.retryAfterMs ?? null
    this.headers = detail.headers ?? null
  }
}

/** Makes an error of the table: `throw fail('rate_limited', { retryAfterMs })`. */
export function fail(code: ErrorCode, detail?: ErrorDetail): ApiError {
  return new ApiError(code, detail)
}

/** The body that OpenAI's clients read: `{"error":{"message","type","param","code"}}`. */
export type ErrorBody = {
  error: { message: string; type: string; param: string | null; code: string }
}

/** The one place where an error becomes a body. */
export function toErrorBody(error: ApiError): ErrorBody {
  return {
    error: {
      message: error.message,
      type: errorTable[error.code].type,
      param: error.param,
      code: error.code,
    },
  }
}

/** What was thrown, as an error of the table; a stranger becomes `internal` and keeps its own text as the cause only. */
export function toApiError(thrown: unknown): ApiError {
  return thrown instanceof ApiError ? thrown : fail('internal', { cause: thrown })
}

/**
 * A mistake of the operator (configuration, a missing file, a port in use): shown as its message alone, without a
 * stack trace, and the process ends with a non-zero exit code.
 */
export class SetupError extends Error {
  override readonly name = 'SetupError'
}
