import { exactTime, timeOfDay } from "./format";

/** The time of a message; hovering shows the exact time. */
export const MessageTime = ({ at }: { at: string }) => (
	<time dateTime={at} title={exactTime(at)}>
		{timeOfDay(at)}
	</time>
);
