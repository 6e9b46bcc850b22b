import type { ServerResponse } from 'node:http'
import { fail } from '../src/core/errors.ts'
import type { Body } from './call.ts'
import type { Engine } from './engine.ts'
export async function chat(_b: Body, _r: ServerResponse, _e: Engine, _s: AbortSignal): Promise<unknown> {
  throw fail('internal')
}
