//! Participants: their WebSocket, the rooms they are in, and what they ask of the media server.
