/** What the dashboard may order where `[control] dashboard = "write"`: state and weight of a server, as the control API does it. */
import { Hono } from 'hono';
import { addressIn, answerFailure, say, sayUnauthorized, setServer } from './api.ts';
import type { Orders } from './orders.ts';
import { isOwnOrigin } from './own-host.ts';
import type { TokenGate } from './token.ts';

export interface DashboardWriter {
  readonly orders: Pick<Orders, 'set'>;
  /** What must be said now; undefined: the dashboard is read-only. */
  readonly token: () => string | undefined;
  readonly gate: TokenGate;
}

/** Relative to the page. */
export const ORDER_PATH = '/dashboard/server';

/**
 * A page from elsewhere can have a browser send what a form sends, without a word from this server, but neither this type nor a header of its
 * own; and it knows no token, which is in the memory of this page's tab alone.
 */
export function dashboardOrders(writer: DashboardWriter | undefined, failed: (error: Error) => void): Hono {
  const app = new Hono();
  app.post(ORDER_PATH, async (context) => {
    const { req } = context;
    const token = writer?.token();
    if (writer === undefined || token === undefined)
      return say(context, 403, 'refused', 'the dashboard is read-only; in the file: [control] dashboard = "write", and a token');
    if (!isOwnOrigin(req.header('origin'), req.header('host')))
      return say(context, 403, 'refused', "the page is from elsewhere: its Origin is not this server's Host");
    if (!/^application\/json *(;|$)/i.test(req.header('content-type') ?? ''))
      return say(context, 415, 'wrong', 'needed: Content-Type: application/json');
    const judgement = writer.gate.judge(token, req.header('authorization'), addressIn(context));
    return judgement === 'right' ? context.json(await setServer(context, writer.orders)) : sayUnauthorized(context, judgement);
  });
  app.onError((error, context) => answerFailure(context, error, failed));
  return app;
}
